import { AtomicRedisError, defineScript, type AtomicRedis } from 'nestjs-atomic-redis';

/** Appends a value to a list, and returns how long the list is. */
export const append = defineScript({
  name: 'test.append',
  keys: ['list'],
  args: ['value'],
  lua: `return redis.call('RPUSH', KEYS[1], ARGV[1])`,
  reply: Number,
});

export interface Operation {
  /** Made before each round, while Redis refuses nothing. Its result is given to the call. */
  readonly before?: (redis: AtomicRedis, key: string, options?: Options) => Promise<unknown>;
  readonly call: (redis: AtomicRedis, key: string, options: Options, prepared: never) => Promise<unknown>;
  /** Its keys are the library's own. */
  readonly ownKeys?: boolean;
}

export interface Options {
  readonly timeoutMs: number;
}

const stock = ({ counters }: AtomicRedis, key: string) => counters.add(key, 9);
const held = async (redis: AtomicRedis, key: string): Promise<string> => {
  await stock(redis, key);
  return (await redis.reservations.hold(key, 1, { ttlMs: 60_000 })).id;
};
const valued = ({ values }: AtomicRedis, key: string) => values.getAndSet(key, 'old');
const delivered = async ({ queues }: AtomicRedis, key: string) => {
  await queues.get(key).push('job');
  return (await queues.get(key).take())!;
};

/** Every operation that is one or several scripts. */
export const OPERATIONS: Readonly<Record<string, Operation>> = {
  'values.compareAndSet': {
    before: valued,
    call: ({ values }, key, options) => values.compareAndSet(key, 'old', 'new', options),
  },
  'values.compareAndDelete': {
    before: valued,
    call: ({ values }, key, options) => values.compareAndDelete(key, 'old', options),
  },
  'values.compareAndSetField': {
    call: ({ values }, key, options) => values.compareAndSetField(key, 'f', null, 'new', options),
  },
  'values.compareAndDeleteField': {
    before: ({ values }, key) => values.compareAndSetField(key, 'f', null, 'old'),
    call: ({ values }, key, options) => values.compareAndDeleteField(key, 'f', 'old', options),
  },
  'values.getAndSet': {
    before: valued,
    call: ({ values }, key, options) => values.getAndSet(key, 'new', options),
  },
  'values.getAndDelete': {
    before: valued,
    call: ({ values }, key, options) => values.getAndDelete(key, options),
  },
  'values.getAndExpire': {
    before: valued,
    call: ({ values }, key, options) => values.getAndExpire(key, { ttlMs: 60_000, ...options }),
  },
  'auditedHashes.set': {
    call: ({ auditedHashes }, key, options) =>
      auditedHashes.set(key, 'f', 'v', { log: `${key}:log`, ...options }),
  },
  'auditedHashes.history': {
    before: ({ auditedHashes }, key) => auditedHashes.set(`${key}:hash`, 'f', 'v', { log: key }),
    call: ({ auditedHashes }, key, options) => auditedHashes.history(key, options),
  },
  'counters.add': { call: ({ counters }, key, options) => counters.add(key, 1, options) },
  'counters.undo': {
    // Its time-out is that of the addition.
    before: ({ counters }, key, options) => counters.addUndoable(key, 1, options),
    call: (_, __, ___, { undo }: { undo: () => Promise<boolean> }) => undo(),
  },
  'counters.reset': { before: stock, call: ({ counters }, key, options) => counters.reset(key, options) },
  'counters.addAll': {
    call: ({ counters }, key, options) => counters.addAll([{ key, amount: 1 }], options),
  },
  'counters.get': { before: stock, call: ({ counters }, key, options) => counters.get(key, options) },
  'reservations.hold': {
    before: stock,
    call: ({ reservations }, key, options) => reservations.hold(key, 1, { ttlMs: 60_000, ...options }),
  },
  'reservations.confirm': {
    before: held,
    call: ({ reservations }, _, options, id: string) => reservations.confirm(id, options),
  },
  'reservations.release': {
    before: held,
    call: ({ reservations }, _, options, id: string) => reservations.release(id, options),
  },
  'reservations.extend': {
    before: held,
    call: ({ reservations }, _, options, id: string) => reservations.extend(id, 90_000, options),
  },
  'reservations.list': {
    before: held,
    call: ({ reservations }, key, options) => reservations.list(key, options),
  },
  'transfers.transfer': {
    before: stock,
    call: ({ transfers }, key, options) =>
      transfers.transfer({ from: key, to: `${key}:to`, amount: 1 }, options),
  },
  'transfers.acrossSlots': {
    before: stock,
    call: ({ transfers }, key, options) =>
      transfers.acrossSlots({ from: key, to: `${key}:to`, amount: 1 }, options),
  },
  'transfers.pending': {
    call: ({ transfers }, key, options) => transfers.pending({ from: key, ...options }),
    ownKeys: true,
  },
  'limits.take': {
    call: ({ limits }, key, options) => limits.take({ key, limit: 9, perMs: 60_000 }, options),
    ownKeys: true,
  },
  'limits.reserve': {
    call: ({ limits }, key, options) =>
      limits.reserve({ key, limit: 9, perMs: 60_000 }, { ttlMs: 60_000, ...options }),
    ownKeys: true,
  },
  'lists.move': {
    before: ({ scripts }, key) => scripts.run(append, { keys: { list: key }, args: { value: 'x' } }),
    call: ({ lists }, key, options) => lists.move(key, `${key}:to`, options),
  },
  'scripts.run': {
    call: ({ scripts }, key, options) =>
      scripts.run(append, { keys: { list: key }, args: { value: 'x' } }, options),
  },
  'idempotency.run': {
    call: ({ idempotency }, key, options) => idempotency.run(key, () => 'ran', options),
    ownKeys: true,
  },
  'idempotency.inspect': {
    call: ({ idempotency }, key) => idempotency.inspect(key),
    ownKeys: true,
  },
  'queues.push': { call: ({ queues }, key, options) => queues.get(key).push('job', options), ownKeys: true },
  'queues.ack': {
    before: delivered,
    call: (_, __, options, job: Awaited<ReturnType<typeof delivered>>) => job.ack(options),
    ownKeys: true,
  },
  'queues.extend': {
    before: delivered,
    call: (_, __, options, job: Awaited<ReturnType<typeof delivered>>) => job.extend(options),
    ownKeys: true,
  },
  'queues.counts': { call: ({ queues }, key, options) => queues.get(key).counts(options), ownKeys: true },
};

/** Time-out of calls that are refused until it ends. */
export const TIME_MS = 2_000;

export interface Answer {
  readonly code: string;
  readonly reply?: string;
  readonly outcome: string;
  readonly retryable: boolean;
}

/** Reduces a call's result to the parts that a caller can distinguish. */
export const answerOf = async (call: Promise<unknown>): Promise<Answer | 'done'> => {
  try {
    await call;
    return 'done';
  } catch (error) {
    if (!(error instanceof AtomicRedisError)) throw error;
    const { code, outcome, retryable, reply } = error as AtomicRedisError & { reply?: string };
    return { code, outcome, retryable, ...(reply !== undefined && { reply }) };
  }
};

/** Does `work`, and `end` after it, however it ends. */
export async function during<T>(end: () => Promise<unknown>, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } finally {
    await end();
  }
}

/** A call that was refused until its time was over. */
export const REFUSED: Answer = { code: 'REDIS_UNAVAILABLE', outcome: 'not-applied', retryable: true };

/**
 * The answers of calls that are refused until their time is over. Where the machine stands still
 * just then, a call is in flight, and of unknown outcome, alone as well as beside others: some may
 * be, and are given back as refused.
 *
 * @throws Error where more are of unknown outcome
 */
export function refusedInTime(answers: Readonly<Record<string, readonly (Answer | 'done')[]>>) {
  let unknown = 0;
  const told = Object.entries(answers).map(([name, all]) => [
    name,
    all.map((answer) => {
      if (answer === 'done' || answer.outcome !== 'unknown') return answer;
      unknown++;
      return REFUSED;
    }),
  ]);
  const calls = Object.values(answers).flat().length;
  if (unknown > calls / 2) throw new Error(`${unknown} of ${calls} calls are of unknown outcome`);
  return Object.fromEntries(told) as Record<string, (Answer | 'done')[]>;
}
