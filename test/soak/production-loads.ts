import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { recordOperation } from '../histories/recorder.js';
import { defineScript, type AtomicRedis, type AtomicRedisError } from '../../lib/index.js';

/** The reports of the calls of one kind, and the final state of Redis. */
export interface LoadVerdict {
  readonly kind: string;
  readonly applied: number;
  readonly notApplied: number;
  readonly unknown: number;
  /** Effects beyond those that were, or may have been, reported as applied. */
  readonly doubled: number;
  /** Told to be applied, and not there. */
  readonly lost: number;
  /** Errors without a documented meaning. */
  readonly unexpected: number;
}

interface Told {
  applied: number;
  notApplied: number;
  unknown: number;
  unexpected: number;
}

type Faults = Pick<LoadVerdict, 'doubled' | 'lost'>;

/** A service under load: its effects can be counted in the end. */
interface Load {
  call(redis: AtomicRedis, n: number): Promise<unknown>;
  judge(redis: AtomicRedis, admin: Redis, told: Told): Promise<Faults>;
}

const LARGE = 'x'.repeat(200_000);
const PLENTY = 1_000_000;
const ELEMENTS = 100_000;

const increment = defineScript({
  name: 'soak.increment',
  keys: ['counter'],
  args: [],
  lua: `return redis.call('INCR', KEYS[1])`,
  reply: Number,
});

/** Each call has one effect. */
const compare = (effects: number, { applied, unknown }: Told): Faults => ({
  doubled: Math.max(0, effects - applied - unknown),
  lost: Math.max(0, applied - effects),
});

const oneEach =
  (effects: (admin: Redis) => Promise<number>): Load['judge'] =>
  async (_, admin, told) =>
    compare(await effects(admin), told);

const numberAt = (key: string, start = 0): Load['judge'] =>
  oneEach(async (admin) => Math.abs(Number(await admin.get(key)) - start));

const repeated = (times: ReadonlyMap<unknown, number>): number =>
  [...times.values()].filter((count) => count > 1).length;

const countOne = <K>(times: Map<K, number>, key: K): unknown => times.set(key, (times.get(key) ?? 0) + 1);

const isUnknown = (error: unknown): boolean => (error as Partial<AtomicRedisError>).outcome === 'unknown';

/** One for each service; those that take something begin with plenty of it. */
const loads = (): Record<string, Load> => ({
  counter: { call: ({ counters }) => counters.add('{c}n', 1), judge: numberAt('{c}n') },
  transaction: {
    call: ({ transactions }) =>
      transactions.run(['{t}n'], async (tx) => {
        tx.write.set('{t}n', Number(await tx.read.get('{t}n')) + 1);
      }),
    judge: numberAt('{t}n'),
  },
  'idempotent run': idempotentRun(),
  value: {
    call: async ({ values }, n) => {
      if (n % 5 === 0) await values.getAndSet('{v}large', LARGE);
      const expected = n === 0 ? null : String(n);
      const { current, swapped } = await values.compareAndSet('{v}n', expected, String(n + 1));
      // Nothing else writes it.
      if (!swapped) throw new Error(`found ${current} where ${n} was written`);
    },
    judge: numberAt('{v}n'),
  },
  transfer: {
    call: ({ transfers }) => transfers.transfer({ from: '{m}from', to: '{m}to', amount: 1 }),
    judge: numberAt('{m}to'),
  },
  reservation: reservation(),
  'audited hash': {
    call: ({ auditedHashes }, n) =>
      auditedHashes.set('{a}h', `f${n % 7}`, String(n), { log: '{a}log', maxEntries: 10_000_000 }),
    judge: oneEach((admin) => admin.xlen('{a}log')),
  },
  list: {
    call: async ({ lists }) => {
      if ((await lists.move('{l}from', '{l}to')) === null) throw new Error('the list is empty');
    },
    judge: oneEach((admin) => admin.llen('{l}to')),
  },
  'shadow key': {
    call: ({ shadowKeys }, n) => shadowKeys.replace('{s}h', { a: String(n), b: String(n) }),
    judge: async (_, admin) => {
      const [a, b] = await admin.hmget('{s}h', 'a', 'b');
      return { doubled: 0, lost: a === b ? 0 : 1 };
    },
  },
  'own script': {
    call: ({ scripts }) => scripts.run(increment, { keys: { counter: '{o}n' } }),
    judge: numberAt('{o}n'),
  },
  job: job(),
});

/** Each request comes three times. */
function idempotentRun(): Load {
  const effects = new Map<number, number>();
  return {
    call: async ({ idempotency }, n) => {
      const request = Math.floor(n / 3);
      const effect = (): Promise<number> => {
        countOne(effects, request);
        return Promise.resolve(request);
      };
      const answer = await idempotency.run(`r${request}`, effect);
      if (answer !== request) throw new Error(`request ${request} was answered with ${answer}`);
    },
    judge: () => Promise.resolve({ doubled: repeated(effects), lost: 0 }),
  };
}

function reservation(): Load {
  /** Held, and told otherwise since the confirmation failed. */
  let onlyHeld = 0;
  return {
    call: async ({ reservations }) => {
      const { id } = await reservations.hold('{h}stock', 1, { ttlMs: 3_600_000 });
      onlyHeld++;
      await reservations.confirm(id);
      onlyHeld--;
    },
    judge: oneEach(async (admin) => PLENTY - Number(await admin.get('{h}stock')) - onlyHeld),
  };
}

/** Pushes and takes by turns. */
function job(): Load {
  let payload = 0;
  let pushed = 0;
  let perhapsPushed = 0;
  let perhapsEnded = 0;
  const ended = new Map<number, number>();
  return {
    call: async ({ queues }, n) => {
      const queue = queues.get<number>('soak', { leaseMs: 5_000 });
      if (n % 2 === 0)
        return await queue.push(payload++).then(
          () => pushed++,
          (error: unknown) => {
            if (isUnknown(error)) perhapsPushed++;
            throw error;
          },
        );
      const taken = await queue.take({ waitMs: 500 });
      if (!taken) return undefined;
      try {
        if (await taken.ack()) countOne(ended, taken.payload);
      } catch (error) {
        if (isUnknown(error)) perhapsEnded++;
        throw error;
      }
      return undefined;
    },
    judge: async ({ queues }) => {
      const { pending, processing, dead } = await queues.get('soak').counts();
      const known = [...ended.values()].reduce((sum, times) => sum + times, 0) + pending + processing + dead;
      return {
        doubled: repeated(ended) + Math.max(0, known - pushed - perhapsPushed),
        lost: Math.max(0, pushed - known - perhapsEnded),
      };
    },
  };
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
    await admin.mset('{m}from', PLENTY, '{h}stock', PLENTY);
    for (let left = ELEMENTS; left > 0; left -= 1_000)
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
        return { kind, ...told, ...(await load.judge(this.redis, admin, told)) };
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
        const called = n;
        await recordOperation(
          { name: kind, args: called },
          () => this.loads[kind]!.call(this.redis, called),
          {
            resultOf: () => null,
          },
        );
        told.applied++;
        n++;
        for (const resolve of waiting) resolve();
      } catch (error) {
        this.waiting.set(kind, [...(this.waiting.get(kind) ?? []), ...waiting]);
        this.tell(kind, told, error);
        // A value may have been set; the chain continues from the current one.
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
    const { outcome, retryable, code } = error as Partial<AtomicRedisError>;
    if (outcome === 'unknown') told.unknown++;
    // Nothing that the faults bring about is the caller's own mistake.
    else if (outcome === 'not-applied' && retryable) told.notApplied++;
    else told.unexpected++;
    if (this.examples.length < 12 && !this.examples.some((example) => example.includes(String(code))))
      this.examples.push(`${kind}: ${code} ${String(error)}`);
  }
}
