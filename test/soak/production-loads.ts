import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { AtomicRedisError, defineScript, type AtomicRedis } from '../../lib/index.js';

/** What the calls of one kind were told, and what Redis has of them in the end. */
export interface LoadVerdict {
  readonly kind: string;
  readonly applied: number;
  readonly notApplied: number;
  readonly unknown: number;
  /** Effects beyond what was told to be applied, or may have been. */
  readonly doubled: number;
  /** Told to be applied, and not there. */
  readonly lost: number;
  /** Errors of no kind that callers are told about. */
  readonly unexpected: number;
}

/** A service under load: each call has one effect, which can be counted in the end. */
interface Load {
  /** Makes one call. `false`: it was told to have no effect. */
  call(redis: AtomicRedis, n: number): Promise<unknown>;
  /** Effects that Redis has. */
  count(redis: Redis): Promise<number>;
}

const LARGE = 'x'.repeat(200_000);
const STOCK = 1_000_000;

const increment = defineScript({
  name: 'soak.increment',
  keys: ['counter'],
  args: [],
  lua: `return redis.call('INCR', KEYS[1])`,
  reply: Number,
});

const numberAt =
  (key: string, start = 0) =>
  async (redis: Redis): Promise<number> =>
    Math.abs(Number(await redis.get(key)) - start);

/** One for each service; those that take something begin with plenty of it. */
function loads(): Record<string, Load> {
  const effects = new Map<number, number>();
  const acknowledged = new Map<string, number>();
  return {
    counter: { call: ({ counters }) => counters.add('{c}n', 1), count: numberAt('{c}n') },
    transaction: {
      call: ({ transactions }) =>
        transactions.run(['{t}n'], async (tx) => tx.write.set('{t}n', Number(await tx.read.get('{t}n')) + 1)),
      count: numberAt('{t}n'),
    },
    'idempotent run': {
      // Each request comes three times.
      call: async ({ idempotency }, n) => {
        const request = Math.floor(n / 3);
        return await idempotency.run(`r${request}`, () => {
          effects.set(request, (effects.get(request) ?? 0) + 1);
          return Promise.resolve(request);
        });
      },
      count: () => Promise.resolve([...effects.values()].filter((times) => times > 1).length),
    },
    value: {
      call: async ({ values }, n) => {
        if (n % 5 === 0) await values.getAndSet('{v}large', LARGE);
        const { current, swapped } = await values.compareAndSet(
          '{v}n',
          n === 0 ? null : String(n),
          String(n + 1),
        );
        return swapped || current;
      },
      count: () => Promise.resolve(0),
    },
    transfer: {
      call: ({ transfers }) => transfers.transfer({ from: '{m}from', to: '{m}to', amount: 1 }),
      count: numberAt('{m}to'),
    },
    reservation: {
      call: async ({ reservations }) => {
        const { id } = await reservations.hold('{h}stock', 1, { ttlMs: 3_600_000 });
        return await reservations.confirm(id);
      },
      count: () => Promise.resolve(0),
    },
    'audited hash': {
      call: ({ auditedHashes }, n) =>
        auditedHashes.set('{a}h', `f${n % 7}`, String(n), { log: '{a}log', maxEntries: 10_000_000 }),
      count: (redis) => redis.xlen('{a}log'),
    },
    list: {
      call: ({ lists }) => lists.move('{l}from', '{l}to'),
      count: (redis) => redis.llen('{l}to'),
    },
    'shadow key': {
      call: ({ shadowKeys }, n) => shadowKeys.replace('{s}h', { a: String(n), b: String(n) }),
      // A reader never sees a part of one.
      count: async (redis) => {
        const [a, b] = await redis.hmget('{s}h', 'a', 'b');
        return a === b ? 0 : 1;
      },
    },
    'own script': {
      call: ({ scripts }) => scripts.run(increment, { keys: { counter: '{o}n' } }),
      count: numberAt('{o}n'),
    },
    job: {
      call: async ({ queues }, n) => {
        const queue = queues.get<number>('soak');
        if (n % 2 === 0) return await queue.push(n);
        const job = await queue.take({ timeoutMs: 500 });
        if (job && (await job.ack())) acknowledged.set(job.id, (acknowledged.get(job.id) ?? 0) + 1);
        return true;
      },
      count: () => Promise.resolve([...acknowledged.values()].filter((times) => times > 1).length),
    },
  };
}

/** Kinds whose effects are counted one for one; of the others `count` is the number of faults seen. */
const COUNTED = new Set(['counter', 'transaction', 'transfer', 'audited hash', 'list', 'own script']);

interface Told {
  applied: number;
  notApplied: number;
  unknown: number;
  unexpected: number;
}

/** Keeps every service busy. */
export class ProductionLoads {
  private readonly loads = loads();
  private readonly told = new Map<string, Told>();
  private readonly waiting = new Map<string, (() => void)[]>();
  readonly examples: string[] = [];
  private isEnding = false;
  private running: Promise<unknown> = Promise.resolve();

  constructor(private readonly redis: AtomicRedis) {}

  /** @param admin of the master */
  async start(admin: Redis): Promise<void> {
    await admin.mset('{m}from', STOCK, '{h}stock', STOCK);
    for (let left = 20_000; left > 0; left -= 1_000)
      await admin.rpush('{l}from', ...Array.from({ length: 1_000 }, () => 'x'));
    this.running = Promise.all(Object.keys(this.loads).map((kind) => this.keepBusy(kind)));
  }

  /** Kinds that are still waited for. */
  get notRecovered(): string[] {
    return [...this.waiting].flatMap(([kind, waiting]) => (waiting.length > 0 ? [kind] : []));
  }

  /** Resolves when a call of each kind, begun from now on, has succeeded. */
  async recovered(): Promise<void> {
    await Promise.all(
      Object.keys(this.loads).map(
        (kind) =>
          new Promise<void>((resolve) => {
            const waiting = this.waiting.get(kind) ?? [];
            this.waiting.set(kind, [...waiting, resolve]);
          }),
      ),
    );
  }

  async end(): Promise<void> {
    this.isEnding = true;
    await this.running;
  }

  async verdicts(admin: Redis): Promise<LoadVerdict[]> {
    return await Promise.all(
      Object.entries(this.loads).map(async ([kind, load]) => {
        const told = this.told.get(kind)!;
        const count = await load.count(admin);
        const isCounted = COUNTED.has(kind);
        const doubled = isCounted ? Math.max(0, count - told.applied - told.unknown) : count;
        return { kind, ...told, doubled, lost: isCounted ? Math.max(0, told.applied - count) : 0 };
      }),
    );
  }

  private async keepBusy(kind: string): Promise<void> {
    const told: Told = { applied: 0, notApplied: 0, unknown: 0, unexpected: 0 };
    this.told.set(kind, told);
    for (let n = 0; !this.isEnding;) {
      const waiting = this.waiting.get(kind) ?? [];
      this.waiting.delete(kind);
      try {
        await this.loads[kind]!.call(this.redis, n);
        told.applied++;
        n++;
        for (const resolve of waiting) resolve();
      } catch (error) {
        this.waiting.set(kind, [...(this.waiting.get(kind) ?? []), ...waiting]);
        this.tell(kind, told, error);
        // A value may have been set; the chain goes on from what is there.
        if (kind === 'value') n = await this.valueNow(n);
      }
      await sleep(10);
    }
  }

  private async valueNow(n: number): Promise<number> {
    for (; !this.isEnding; await sleep(20)) {
      const found = await this.redis.values.compareAndSet('{v}n', 'never', 'x').catch(() => undefined);
      if (found) return Number(found.current ?? 0);
    }
    return n;
  }

  private tell(kind: string, told: Told, error: unknown): void {
    const { outcome, code } = error as Partial<AtomicRedisError>;
    if (!(error instanceof AtomicRedisError)) told.unexpected++;
    else if (outcome === 'unknown') told.unknown++;
    // Applied, and the caller was told so by the error.
    else if (outcome === 'applied') told.applied++;
    else told.notApplied++;
    if (this.examples.length < 12 && !this.examples.some((example) => example.includes(String(code))))
      this.examples.push(`${kind}: ${code} ${String(error)}`);
  }
}
