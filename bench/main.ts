import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { startRedisServer } from 'nestjs-atomic-redis/testing';
import { heading, markdown, table } from './report.js';
import { comparison, type Workload } from './workload.js';
import { transactionContended } from './workloads/contended.js';
import { counterHot, counterKeys } from './workloads/counters.js';
import { endpoint } from './workloads/endpoint.js';
import { consumers } from './workloads/consumers.js';
import { growth } from './workloads/growth.js';
import { idempotentFirst, idempotentReplay } from './workloads/idempotency.js';
import { limitHot, limitKeys, limitSeveral } from './workloads/limits.js';
import { permitContended, permitDistinct } from './workloads/permits.js';
import { queues } from './workloads/queues.js';
import { runSteps } from './workloads/steps.js';
import { shadowSwap } from './workloads/shadow-swap.js';
import { sizing } from './workloads/sizing.js';
import { telemetry, tracing } from './workloads/telemetry.js';
import { transactionPush } from './workloads/transaction-push.js';
import { transactionDistinct, transactionHot } from './workloads/transactions.js';

const USAGE = `Usage: npm run bench [-- name…] [--short] [--rounds 9] [--round-ms 1000]`;

const workloads: readonly Workload[] = [
  comparison(idempotentFirst),
  comparison(idempotentReplay),
  comparison(runSteps),
  comparison(counterHot),
  comparison(counterKeys),
  comparison(limitHot),
  comparison(limitKeys),
  comparison(limitSeveral),
  comparison(transactionDistinct),
  comparison(transactionHot),
  transactionContended,
  comparison(transactionPush),
  comparison(permitDistinct),
  comparison(permitContended),
  endpoint,
  comparison(queues),
  consumers,
  shadowSwap,
  growth,
  sizing,
  comparison(telemetry),
  comparison(tracing),
];

const { values, positionals } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '9' },
    'round-ms': { type: 'string', default: '1000' },
  },
  allowPositionals: true,
});
const unknown = positionals.filter((name) => !workloads.some((workload) => workload.name === name));
if (unknown.length > 0) {
  console.error(
    `${USAGE}\nNo benchmark is named ${unknown.join(', ')}. There are: ${workloads.map(({ name }) => name).join(', ')}.`,
  );
  process.exit(1);
}

const isShort = values.short;
const settings = isShort
  ? { rounds: 1, roundMs: 60, warmUpMs: 30 }
  : { rounds: Number(values.rounds), roundMs: Number(values['round-ms']), warmUpMs: 1_000 };
const chosen = workloads.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
const server = await startRedisServer({
  binary: process.env['TEST_REDIS_BINARY'] ?? process.env['REDIS_SERVER_BINARY'],
});
const admin = new Redis(server.url);
const sections: string[] = [];
try {
  for (const workload of chosen) {
    const result = await workload.run({ url: server.url, port: server.port, admin, settings, isShort });
    console.info(table(workload, result));
    sections.push(markdown(workload, result));
  }
  if (!isShort && positionals.length === 0) {
    const [, kind, version] = /^(redis|valkey)_version:(.*)$/m.exec(await admin.info('server')) ?? [];
    writeFileSync(
      'bench/results.md',
      [heading(`${kind} ${version?.trim()}`, settings), ...sections].join('\n'),
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
