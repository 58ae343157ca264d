import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { startRedisServer, type RedisServer } from '../../lib/testing/index.js';
import { build } from '../support/build.js';

const main = resolve('dist/sample-app/main.js');

/** The built shop in a process of its own. */
export interface Shop {
  readonly url: string;
  /** The output so far. */
  readonly output: string;
  readonly process: ChildProcess;
  /** Exit code, or the signal that ended it. */
  readonly exited: Promise<number | NodeJS.Signals>;
}

export interface Answer {
  readonly status: number;
  /** Problem details, where it is of their media type. */
  readonly problem?: { title: string; status: number; detail: string; code?: string; outcome?: string };
  readonly replayed: boolean;
  readonly retryAfter: string | null;
  /** The bytes on the wire. */
  readonly body: string;
}

/**
 * Starts the shop on a free port. Its channel goes with this process, and the shop with the
 * channel.
 */
export async function startShop(env: Readonly<Record<string, string>> = {}): Promise<Shop> {
  await build();
  const { REDIS_URL: _, ...inherited } = process.env;
  const child = spawn(process.execPath, [main], {
    env: { ...inherited, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  // A shop that neither serves nor ends is ended, so that its output is seen.
  const force = setTimeout(() => child.kill('SIGKILL'), 40_000);
  let output = '';
  const { stdout, stderr } = child as ChildProcess & { stdout: Readable; stderr: Readable };
  // 'close' of the child never comes once its channel was closed from here.
  const exited = Promise.all([once(child, 'exit'), once(stdout, 'close'), once(stderr, 'close')]).then(
    ([[code, signal]]) => (code ?? signal) as number | NodeJS.Signals,
  );
  const url = await new Promise<string>((settle, reject) => {
    const take = (chunk: string): void => {
      output += chunk;
      const [, found] = /^Shop: (\S+)$/m.exec(output) ?? [];
      if (found) settle(found);
    };
    stdout.setEncoding('utf8').on('data', take);
    stderr.setEncoding('utf8').on('data', take);
    void exited.then((how) => reject(new ShopDidNotStart(how, output)));
  }).finally(() => clearTimeout(force));
  return {
    url,
    process: child,
    exited,
    get output() {
      return output;
    },
  };
}

export class ShopDidNotStart extends Error {
  constructor(
    readonly how: number | NodeJS.Signals,
    readonly output: string,
  ) {
    super(`The shop ended (${how}) before it served:\n${output}`);
  }
}

/** Ends a shop in any state. The exit code is for tests to check, not for the clean-up. */
export async function stopShop({ process: child, exited }: Shop): Promise<void> {
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), 5_000);
  await exited;
  clearTimeout(force);
}

export async function send(
  method: string,
  shop: Shop,
  path: string,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const response = await fetch(shop.url + path, {
    method,
    headers: { 'Content-Type': 'application/json', ...headers },
    body: typeof body === 'string' || body === undefined ? body : JSON.stringify(body),
  });
  const text = await response.text();
  const isProblem = response.headers.get('content-type')?.startsWith('application/problem+json');
  return {
    status: response.status,
    ...(isProblem && { problem: JSON.parse(text) as NonNullable<Answer['problem']> }),
    replayed: response.headers.get('idempotency-replayed') === 'true',
    retryAfter: response.headers.get('retry-after'),
    body: text,
  };
}

export const post = (
  ...args: Parameters<typeof send> extends [string, ...infer Rest] ? Rest : never
): Promise<Answer> => send('POST', ...args);

export async function read<T>(shop: Shop, path: string): Promise<T> {
  const { status, body } = await send('GET', shop, path);
  if (status !== 200) throw new Error(`GET ${path} answered ${status}: ${body}`);
  return JSON.parse(body) as T;
}

/**
 * The answer says that nothing was done and that the client may send it again: the machine is busy.
 */
const isTooSlow = ({ status, problem }: Answer): boolean =>
  status === 503 && problem?.outcome === 'not-applied';

/**
 * Many requests at once, spread evenly over the shops. One that took too long is sent again, as its
 * client would.
 */
export async function many(
  count: number,
  shops: readonly Shop[],
  request: (shop: Shop, index: number) => Promise<Answer>,
): Promise<Answer[]> {
  const untilReached = async (i: number): Promise<Answer> => {
    for (let attempt = 1; ; attempt++) {
      const answer = await request(shops[i % shops.length]!, i);
      if (!isTooSlow(answer) || attempt === 10) return answer;
    }
  };
  return await Promise.all(Array.from({ length: count }, (_, i) => untilReached(i)));
}

export const twoHundred = (
  shops: readonly Shop[],
  request: (shop: Shop, index: number) => Promise<Answer>,
): Promise<Answer[]> => many(200, shops, request);

/** Counts the answers of each kind: their status, with the code of problem details. */
export function tally(answers: readonly Answer[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { status, problem } of answers) {
    const kind = [status, problem?.code].filter(Boolean).join(' ');
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** Two processes of the built shop on one Redis, for the spec file. */
export function useShops(): {
  readonly redis: RedisServer;
  readonly shops: readonly Shop[];
  readonly shop: Shop;
} {
  let redis: RedisServer | undefined;
  let shops: Shop[] = [];

  beforeAll(async () => {
    const server = await startRedisServer({ binary: process.env.TEST_REDIS_BINARY });
    redis = server;
    shops = await Promise.all([1, 2].map(() => startShop({ REDIS_URL: server.url })));
  });

  afterAll(async () => {
    await Promise.all(shops.map(stopShop));
    await redis?.stop();
  });

  return {
    get redis() {
      return redis!;
    },
    get shops() {
      return shops;
    },
    get shop() {
      return shops[0]!;
    },
  };
}
