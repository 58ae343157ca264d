import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import autocannon from 'autocannon';
import { spreadOf, type Measured } from '../harness.js';
import type { Bar, Bench, Result, Workload } from '../workload.js';
import { payload } from './idempotent-scripts.js';

const PLATFORMS = ['express', 'fastify'] as const;
const CONNECTIONS = 64;
const ADDED = 'added to a bare endpoint, µs';

interface Kind {
  readonly name: string;
  readonly program: string;
  readonly kind: string;
  /** The bare endpoint that what it adds is counted above. */
  readonly bare: string;
}

const ours = { program: 'endpoint-server.js', bare: 'bare' };
const nest10 = { program: 'endpoint-nest-10-server.js', bare: 'bare on Nest 10' };
const KINDS: readonly Kind[] = [
  { ...ours, name: 'bare', kind: 'bare' },
  { ...ours, name: 'decorated', kind: 'decorated' },
  { ...ours, name: 'by hand', kind: 'by hand' },
  { ...ours, name: 'tutorial’s interceptor', kind: 'interceptor' },
  { ...nest10, name: 'bare on Nest 10', kind: 'bare' },
  { ...nest10, name: '@node-idempotency on Nest 10', kind: 'node-idempotency' },
];

interface Load {
  readonly perSecond: number;
  readonly cpuUs: number;
}

class Endpoint {
  readonly #loads: Load[] = [];

  private constructor(
    readonly platform: string,
    readonly kind: Kind,
    private readonly child: ChildProcess,
    private readonly url: string,
  ) {}

  static async start(platform: string, kind: Kind, redisUrl: string): Promise<Endpoint> {
    const program = fileURLToPath(new URL(kind.program, import.meta.url));
    const child = fork(program, [platform, kind.kind, redisUrl]);
    const [{ port }] = (await once(child, 'message')) as [{ port: number }];
    return new Endpoint(platform, kind, child, `http://127.0.0.1:${port}/orders`);
  }

  get name(): string {
    return `${this.platform}, ${this.kind.name}`;
  }

  get isBare(): boolean {
    return this.kind.name === this.kind.bare;
  }

  /** @throws unless two requests with one key are answered alike, and only then */
  async check(): Promise<void> {
    const post = async (): Promise<string> => {
      const headers = { 'content-type': 'application/json', 'idempotency-key': 'checked' };
      const response = await fetch(this.url, { method: 'POST', headers, body: JSON.stringify(payload) });
      return `${response.status} ${response.headers.get('content-type')} ${await response.text()}`;
    };
    const [first, second] = [await post(), await post()];
    if ((first === second) === this.isBare || !first.startsWith('201'))
      throw new Error(`${this.name} answered one key with ${first}, then with ${second}`);
  }

  /** Requests under a new key each. */
  async load(ms: number, counts: boolean): Promise<void> {
    const before = await this.cpuUs();
    const startedAt = performance.now();
    const found = await autocannon({
      url: this.url,
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
      throw new Error(`${this.name}: ${found.non2xx} answers were not 2xx, ${found.errors} requests failed`);
    const done = found['2xx'];
    if (counts)
      this.#loads.push({ perSecond: done / seconds, cpuUs: ((await this.cpuUs()) - before) / done });
  }

  measured(all: readonly Endpoint[]): Measured {
    const bare = all.find(
      ({ platform, kind }) => platform === this.platform && kind.name === this.kind.bare,
    )!;
    return {
      name: this.name,
      opsPerSecond: spreadOf(this.#loads.map(({ perSecond }) => perSecond)),
      figures: {
        'client CPU, µs/op': spreadOf(this.#loads.map(({ cpuUs }) => cpuUs)),
        ...(!this.isBare && {
          // It is taken from the same round.
          [ADDED]: spreadOf(this.#loads.map(({ cpuUs }, round) => cpuUs - bare.#loads[round]!.cpuUs)),
        }),
      },
    };
  }

  async stop(): Promise<void> {
    const exited = once(this.child, 'exit');
    this.child.send('stop');
    await exited;
  }

  private async cpuUs(): Promise<number> {
    this.child.send('cpu');
    const [{ user, system }] = (await once(this.child, 'message')) as [NodeJS.CpuUsage];
    return user + system;
  }
}

let requests = 0;

const barsOf = (platform: string): readonly Bar[] => {
  const contestant = `${platform}, decorated`;
  const added = (name: string): Bar => ({
    contestant,
    against: `${platform}, ${name}`,
    figure: ADDED,
    most: 0.8,
  });
  return [
    { contestant, against: `${platform}, by hand`, least: 0.88 },
    added('tutorial’s interceptor'),
    added('@node-idempotency on Nest 10'),
  ];
};

export const endpoint: Workload = {
  name: 'endpoint',
  title: 'Nest endpoint with @Idempotent()',
  about:
    `POST under a new key, ${CONNECTIONS} connections by autocannon. By hand, in front of Nest: key and request hashed, claimed under a lease that is renewed, the response captured with its headers, held until it is kept, and replayed as it was, given back after a 5xx; but claimed before guards and pipes, without limits of time, and without a wait for a handler that another has answered for. ` +
    'The interceptor of tutorials, and @node-idempotency/nestjs on the Nest that it supports, keep the value of the handler and give less. What is added is the CPU time of the process above that of a bare endpoint of the same Nest.',
  bars: PLATFORMS.flatMap(barsOf),
  async run({ url, settings, isShort, admin }: Bench): Promise<Result> {
    await admin.flushall();
    const kinds = KINDS.filter(({ program }) => program !== nest10.program || process.env['BENCH_NEST_10']);
    const ms = isShort ? 300 : Math.max(settings.roundMs, 2_000);
    const tables: Result['tables'][number][] = [];
    for (const platform of PLATFORMS) {
      const endpoints: Endpoint[] = [];
      try {
        for (const kind of kinds) endpoints.push(await Endpoint.start(platform, kind, url));
        for (const one of endpoints) {
          await admin.flushall();
          await one.check();
          await one.load(ms, false);
        }
        for (let round = 0; round < settings.rounds; round++)
          for (let i = 0; i < endpoints.length; i++)
            await endpoints[(round + i) % endpoints.length]!.load(ms, true);
      } finally {
        await Promise.all(endpoints.map((one) => one.stop()));
      }
      tables.push({ callers: CONNECTIONS, measured: endpoints.map((one) => one.measured(endpoints)) });
    }
    return { tables };
  },
};
