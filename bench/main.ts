import { Redis } from 'ioredis';
import { startRedisServer } from 'nestjs-atomic-redis/testing';
import type { Settings } from './harness.js';
import { markdown, text } from './report.js';
import { record } from './results.js';
import { workloads } from './workloads.js';

/** The order of `scripts/bench.mjs`, which gives it as JSON. */
export interface Order {
  /** Benchmarks and groups of them; none stands for all. */
  readonly names: readonly string[];
  /** True if results are of a server that was asked for by name. */
  readonly namesServer: boolean;
  readonly isShort: boolean;
  readonly isRecorded: boolean;
  readonly settings: Settings;
}

const { names, namesServer, isShort, isRecorded, settings } = JSON.parse(process.argv[2]!) as Order;
const unknown = names.filter(
  (chosen) => !workloads.some(({ name, group }) => name === chosen || group === chosen),
);
if (unknown.length > 0) {
  const known = new Set(workloads.flatMap(({ name, group }) => (group ? [name, group] : [name])));
  console.error(`No benchmark is named ${unknown.join(', ')}. There are: ${[...known].join(', ')}.`);
  process.exit(1);
}

const chosen = workloads.filter(
  ({ name, group }) => names.length === 0 || names.includes(name) || (group && names.includes(group)),
);
const server = await startRedisServer({
  binary: process.env['TEST_REDIS_BINARY'] ?? process.env['REDIS_SERVER_BINARY'],
});
const admin = new Redis(server.url);
try {
  const info = await admin.info('server');
  const version = (product: string): string | undefined =>
    new RegExp(`^${product}_version:(.*)$`, 'm').exec(info)?.[1]?.trim();
  const serverName = version('valkey') ? `Valkey ${version('valkey')}` : `Redis ${version('redis')}`;
  for (const workload of chosen) {
    const result = await workload.run({ url: server.url, port: server.port, admin, settings, isShort });
    console.info(text(workload, result));
    const title = namesServer ? `${workload.title}, on ${serverName}` : workload.title;
    // After each, so that a run that is broken off leaves what it has measured.
    if (isRecorded)
      record(
        title,
        markdown(workload, result, { server: serverName, settings }),
        workloads.map((one) => one.title),
      );
  }
} catch (error) {
  // At once: what is still under way would fail too, once the server is gone.
  console.error(error);
  process.exitCode = 1;
} finally {
  admin.disconnect();
  await server.stop();
}
