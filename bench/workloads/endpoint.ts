import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import autocannon from 'autocannon';
import { spreadOf, type Measured } from '../harness.js';
import type { Bench, Result, Workload } from '../workload.js';
import { payload } from './idempotent-scripts.js';

const PLATFORMS = ['express', 'fastify'] as const;
const KINDS = ['decorated', 'by hand'] as const;
const CONNECTIONS = 64;

interface Endpoint {
  readonly child: ChildProcess;
  readonly port: number;
}

async function start(platform: string, kind: string, url: string): Promise<Endpoint> {
  const child = fork(fileURLToPath(new URL('endpoint-server.js', import.meta.url)), [platform, kind, url]);
  const [{ port }] = (await once(child, 'message')) as [{ port: number }];
  return { child, port };
}

async function cpuUsOf({ child }: Endpoint): Promise<number> {
  child.send('cpu');
  const [{ user, system }] = (await once(child, 'message')) as [NodeJS.CpuUsage];
  return user + system;
}

let requests = 0;

/** Requests under a new key each. */
async function load(endpoint: Endpoint, ms: number): Promise<{ perSecond: number; cpuUs: number }> {
  const before = await cpuUsOf(endpoint);
  const startedAt = performance.now();
  const found = await autocannon({
    url: `http://127.0.0.1:${endpoint.port}/orders`,
    connections: CONNECTIONS,
    duration: ms / 1_000,
    method: 'POST',
    body: JSON.stringify(payload),
    requests: [
      {
        setupRequest: (request) => ({
          ...request,
          headers: { 'content-type': 'application/json', 'idempotency-key': `request-${requests++}` },
        }),
      },
    ],
  });
  const seconds = (performance.now() - startedAt) / 1_000;
  if (found.non2xx > 0 || found.errors > 0)
    throw new Error(`${found.non2xx} answers were not 2xx, ${found.errors} requests failed`);
  const done = found['2xx'];
  return { perSecond: done / seconds, cpuUs: ((await cpuUsOf(endpoint)) - before) / done };
}

export const endpoint: Workload = {
  name: 'endpoint',
  title: 'Nest endpoint with @Idempotent()',
  about: `POST under a new key, ${CONNECTIONS} connections by autocannon: the decorated endpoint beside the same written by hand, with the scripts of the floor.`,
  bars: PLATFORMS.map((platform) => ({
    contestant: `${platform}, decorated`,
    against: `${platform}, by hand`,
    least: 0.95,
  })),
  async run({ url, settings, isShort, admin }: Bench): Promise<Result> {
    await admin.flushall();
    const all = PLATFORMS.flatMap((platform) => KINDS.map((kind) => ({ platform, kind })));
    const found = new Map<string, { perSecond: number; cpuUs: number }[]>();
    const endpoints: Endpoint[] = [];
    try {
      for (const { platform, kind } of all) endpoints.push(await start(platform, kind, url));
      const ms = isShort ? 300 : Math.max(settings.roundMs, 2_000);
      for (const one of endpoints) await load(one, ms);
      for (let round = 0; round < settings.rounds; round++)
        for (let i = 0; i < all.length; i++) {
          const at = (round + i) % all.length;
          const { platform, kind } = all[at]!;
          const name = `${platform}, ${kind}`;
          found.set(name, [...(found.get(name) ?? []), await load(endpoints[at]!, ms)]);
        }
    } finally {
      await Promise.all(
        endpoints.map(async ({ child }) => {
          child.send('stop');
          await once(child, 'exit');
        }),
      );
    }
    const none = spreadOf([Number.NaN]);
    const measured: Measured[] = [...found].map(([name, samples]) => ({
      name,
      opsPerSecond: spreadOf(samples.map(({ perSecond }) => perSecond)),
      clientCpuUs: spreadOf(samples.map(({ cpuUs }) => cpuUs)),
      serverCpuUs: none,
      reads: none,
    }));
    return { tables: [{ callers: CONNECTIONS, measured }] };
  },
};
