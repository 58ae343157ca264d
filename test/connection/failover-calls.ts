import { defineScript, type AtomicRedis, type QueueJob } from '../../lib/index.js';

/**
 * One public call: what it needs before the failover, and the call itself, which resolves with true
 * when its answer is right.
 */
export interface FailoverCall {
  readonly name: string;
  /** `name` itself is free to be used in keys. */
  readonly run: (redis: AtomicRedis, key: string) => Promise<() => Promise<boolean>>;
}

const increment = defineScript({
  name: 'failover.increment',
  keys: ['counter'],
  args: [],
  lua: `return redis.call('INCR', KEYS[1])`,
  reply: Number,
});

const call = (name: string, run: FailoverCall['run']): FailoverCall => ({ name, run });

/** A call that needs nothing before. */
const plain = (name: string, run: (redis: AtomicRedis, key: string) => Promise<boolean>): FailoverCall =>
  call(name, async (redis, key) => () => run(redis, key));

/** Nothing of it becomes free while a test runs. */
const quotaOf = (key: string) => ({ key, limit: 9, perMs: 31_536_000_000 });

const hold = (redis: AtomicRedis, key: string) =>
  redis.counters.add(key, 5).then(() => redis.reservations.hold(key, 2, { ttlMs: 600_000 }));

async function jobOf(redis: AtomicRedis, key: string): Promise<QueueJob<string>> {
  const queue = redis.queues.get<string>(key);
  await queue.push('job');
  return (await queue.take({ waitMs: 20_000 }))!;
}

async function deadLetter(redis: AtomicRedis, key: string) {
  const queue = redis.queues.get<string>(key);
  for (let delivery = 1; delivery <= 2; delivery++) {
    const job = delivery === 1 ? await jobOf(redis, key) : await queue.take({ waitMs: 20_000 });
    await job!.retry();
  }
  const [letter] = await queue.deadLetters.list();
  return { dead: queue.deadLetters, ids: [letter!.id] };
}

/** Every public method of every service that asks Redis for something. */
export const FAILOVER_CALLS: readonly FailoverCall[] = [
  call('TransactionService.run', async ({ transactions }, key) => {
    const work = () =>
      transactions.run([key], async (tx) => {
        const value = Number(await tx.read.get(key)) + 1;
        tx.write.set(key, value);
        return value;
      });
    await work();
    return async () => (await work()) === 2;
  }),
  plain('IdempotencyService.run', async ({ idempotency }, key) => {
    let runs = 0;
    await idempotency.run(key, () => Promise.resolve(++runs));
    return (await idempotency.run(key, () => Promise.resolve(++runs))) === 1 && runs === 1;
  }),
  call('IdempotencyService.inspect', async ({ idempotency }, key) => {
    await idempotency.run(key, () => Promise.resolve(1));
    return async () => (await idempotency.inspect(key))?.state === 'completed';
  }),
  call('IdempotencyService.forget', async ({ idempotency }, key) => {
    await idempotency.run(key, () => Promise.resolve(1));
    return () => idempotency.forget(key);
  }),
  plain('IdempotencyService.held', async ({ idempotency }) => (await idempotency.held()).keys.length === 0),
  plain(
    'IdempotencyService.settle',
    async ({ idempotency }, key) => !(await idempotency.settle(key, { result: 1 })),
  ),
  call('CounterService.add', async ({ counters }, key) => {
    await counters.add(key, 1);
    return async () => (await counters.add(key, 1)).value === 2;
  }),
  plain('CounterService.addUndoable', async ({ counters }, key) => {
    const { undo } = await counters.addUndoable(key, 3);
    await undo();
    return (await counters.get(key)) === 0;
  }),
  plain(
    'CounterService.addAll',
    async ({ counters }, key) => (await counters.addAll([{ key, amount: 2 }])).applied,
  ),
  plain('CounterService.addAllUndoable', async ({ counters }, key) => {
    const { undo } = await counters.addAllUndoable([{ key, amount: 2 }]);
    await undo();
    return (await counters.get(key)) === 0;
  }),
  plain(
    'CounterService.run',
    async ({ counters }, key) => (await counters.run(key, 1, () => Promise.resolve(7))) === 7,
  ),
  call('CounterService.get', async ({ counters }, key) => {
    await counters.add(key, 4);
    return async () => (await counters.get(key)) === 4;
  }),
  call('CounterService.getBigInt', async ({ counters }, key) => {
    await counters.add(key, 4n);
    return async () => (await counters.getBigInt(key)) === 4n;
  }),
  call('CounterService.reset', async ({ counters }, key) => {
    await counters.add(key, 4);
    return async () => (await counters.reset(key)) === 4;
  }),
  call('CounterService.resetBigInt', async ({ counters }, key) => {
    await counters.add(key, 4n);
    return async () => (await counters.resetBigInt(key)) === 4n;
  }),
  call('ReservationService.hold', async (redis, key) => {
    await redis.counters.add(key, 5);
    return async () => (await redis.reservations.hold(key, 2, { ttlMs: 600_000 })).id !== '';
  }),
  call('ReservationService.confirm', async (redis, key) => {
    const { id } = await hold(redis, key);
    return () => redis.reservations.confirm(id);
  }),
  call('ReservationService.release', async (redis, key) => {
    const { id } = await hold(redis, key);
    return () => redis.reservations.release(id);
  }),
  call('ReservationService.extend', async (redis, key) => {
    const { id } = await hold(redis, key);
    return () => redis.reservations.extend(id, 900_000);
  }),
  call('ReservationService.list', async (redis, key) => {
    await hold(redis, key);
    return async () => (await redis.reservations.list(key)).length === 1;
  }),
  call('ReservationService.available', async (redis, key) => {
    await hold(redis, key);
    return async () => (await redis.reservations.available(key)) === 3;
  }),
  plain(
    'ValueService.compareAndSet',
    async ({ values }, key) => (await values.compareAndSet(key, null, '1')).swapped,
  ),
  call('ValueService.compareAndDelete', async ({ values }, key) => {
    await values.getAndSet(key, '1');
    return async () => (await values.compareAndDelete(key, '1')).deleted;
  }),
  plain('ValueService.compareAndSetField', async ({ values }, key) => {
    return (await values.compareAndSetField(key, 'f', null, '1')).swapped;
  }),
  call('ValueService.compareAndDeleteField', async ({ values }, key) => {
    await values.compareAndSetField(key, 'f', null, '1');
    return async () => (await values.compareAndDeleteField(key, 'f', '1')).deleted;
  }),
  call('ValueService.getAndSet', async ({ values }, key) => {
    await values.getAndSet(key, '1');
    return async () => (await values.getAndSet(key, '2')) === '1';
  }),
  call('ValueService.getAndDelete', async ({ values }, key) => {
    await values.getAndSet(key, '1');
    return async () => (await values.getAndDelete(key)) === '1';
  }),
  call('ValueService.getAndExpire', async ({ values }, key) => {
    await values.getAndSet(key, '1');
    return async () => (await values.getAndExpire(key, { ttlMs: 600_000 })) === '1';
  }),
  call('AuditedHashService.set', async ({ auditedHashes }, key) => {
    await auditedHashes.set(key, 'f', '1', { log: `${key}:log` });
    return async () => (await auditedHashes.set(key, 'f', '2', { log: `${key}:log` })) === '1';
  }),
  call('AuditedHashService.delete', async ({ auditedHashes }, key) => {
    await auditedHashes.set(key, 'f', '1', { log: `${key}:log` });
    return async () => (await auditedHashes.delete(key, 'f', { log: `${key}:log` })) === '1';
  }),
  plain('AuditedHashService.update', async ({ auditedHashes }, key) => {
    await auditedHashes.update(key, { f: '1', g: '2' }, { log: `${key}:log` });
    return (await auditedHashes.history(`${key}:log`)).entries.length === 2;
  }),
  call('AuditedHashService.history', async ({ auditedHashes }, key) => {
    await auditedHashes.set(key, 'f', '1', { log: `${key}:log` });
    return async () => (await auditedHashes.history(`${key}:log`)).entries.length === 1;
  }),
  call('TransferService.transfer', async ({ counters, transfers }, key) => {
    await counters.add(`${key}:a`, 5);
    return async () => (await transfers.transfer({ from: `${key}:a`, to: `${key}:b`, amount: 2 })).to === 2;
  }),
  call('TransferService.transferAll', async ({ counters, transfers }, key) => {
    await counters.add(`${key}:a`, 5);
    return async () =>
      (await transfers.transferAll([{ from: `${key}:a`, to: `${key}:b`, amount: 2 }])).length === 1;
  }),
  call('TransferService.acrossSlots', async ({ counters, transfers }, key) => {
    await counters.add(`${key}:a`, 5);
    return async () =>
      (await transfers.acrossSlots({ from: `${key}:a`, to: `${key}:b`, amount: 2 })).to === 2;
  }),
  plain(
    'TransferService.pending',
    async ({ transfers }) => (await transfers.pending()).transfers.length >= 0,
  ),
  plain('TransferService.recover', async ({ transfers }) => typeof (await transfers.recover()) === 'object'),
  plain(
    'ScriptService.run',
    async ({ scripts }, key) => (await scripts.run(increment, { keys: { counter: key } })) === 1,
  ),
  plain(
    'ScriptService.prepare',
    async ({ scripts }, key) => (await scripts.prepare(increment)({ keys: { counter: key } })) === 1,
  ),
  plain('ShadowKeyService.replace', async ({ shadowKeys }, key) => {
    await shadowKeys.replace(key, (writer) => writer.hset({ f: '1' }));
    return true;
  }),
  plain('ShadowKeyService.replaceAll', async ({ shadowKeys }, key) => {
    await shadowKeys.replaceAll({ [key]: (writer) => writer.hset({ f: '1' }) });
    return true;
  }),
  call('ShadowKeyService.rollback', async ({ shadowKeys }, key) => {
    for (const value of ['1', '2'])
      await shadowKeys.replace(key, (writer) => writer.hset({ f: value }), { keepPrevious: true });
    return () => shadowKeys.rollback(key);
  }),
  plain('ReliableQueue.push', async ({ queues }, key) => (await queues.get(key).push('job')) !== ''),
  plain(
    'ReliableQueue.pushMany',
    async ({ queues }, key) => (await queues.get(key).pushMany(['a', 'b'])).length === 2,
  ),
  call('ReliableQueue.take', async ({ queues }, key) => {
    const queue = queues.get<string>(key);
    await queue.push('job');
    return async () => (await queue.take({ waitMs: 20_000 }))?.payload === 'job';
  }),
  call('ReliableQueue.consume', async ({ queues }, key) => {
    const queue = queues.get<string>(key);
    const done = new Set<string>();
    let finished = (): void => undefined;
    const all = new Promise<void>((resolve) => (finished = resolve));
    const consumer = queue.consume(async ({ payload }) => {
      done.add(payload);
      if (done.size === 2) finished();
    });
    await queue.push('before');
    return async () => {
      await queue.push('after');
      await all;
      await consumer.stop();
      return true;
    };
  }),
  call('ReliableQueue.counts', async ({ queues }, key) => {
    await queues.get(key).push('job');
    return async () => (await queues.get(key).counts()).pending === 1;
  }),
  call('QueueJob.ack', async (redis, key) => {
    const job = await jobOf(redis, key);
    return () => job.ack();
  }),
  call('QueueJob.ackAndTakeNext', async (redis, key) => {
    const job = await jobOf(redis, key);
    await redis.queues.get(key).push('next');
    return async () => (await job.ackAndTakeNext()).next?.payload === 'next';
  }),
  call('QueueJob.retry', async (redis, key) => {
    const job = await jobOf(redis, key);
    return () => job.retry();
  }),
  call('QueueJob.extend', async (redis, key) => {
    const job = await jobOf(redis, key);
    return () => job.extend();
  }),
  call('DeadLetters.list', async (redis, key) => {
    const { dead } = await deadLetter(redis, key);
    return async () => (await dead.list()).length === 1;
  }),
  call('DeadLetters.requeue', async (redis, key) => {
    const { dead, ids } = await deadLetter(redis, key);
    return async () => (await dead.requeue(ids)) === 1;
  }),
  call('DeadLetters.purge', async (redis, key) => {
    const { dead, ids } = await deadLetter(redis, key);
    return async () => (await dead.purge(ids)) === 1;
  }),
  call('DeadLetters.requeueAll', async (redis, key) => {
    const { dead } = await deadLetter(redis, key);
    return async () => (await dead.requeueAll()) === 1;
  }),
  call('DeadLetters.purgeAll', async (redis, key) => {
    const { dead } = await deadLetter(redis, key);
    return async () => (await dead.purgeAll()) === 1;
  }),
  plain('LimitService.take', async ({ limits }, key) => (await limits.take(quotaOf(key))).allowed),
  call('LimitService.peek', async ({ limits }, key) => {
    await limits.take(quotaOf(key));
    return async () => (await limits.peek(quotaOf(key))).remaining === 8;
  }),
  call('LimitService.reset', async ({ limits }, key) => {
    await limits.take(quotaOf(key));
    return () => limits.reset(quotaOf(key));
  }),
  plain(
    'LimitService.reserve',
    async ({ limits }, key) => (await limits.reserve(quotaOf(key), { ttlMs: 900_000 })).allowed,
  ),
  call('LimitService.settle', async ({ limits }, key) => {
    const { id } = await limits.reserve(quotaOf(key), { ttlMs: 900_000 });
    return () => limits.settle(id!, 1);
  }),
  plain('PermitService.acquire', async ({ permits }, key) => (await permits.acquire(key)).release()),
  plain('PermitService.tryAcquire', async ({ permits }, key) => (await permits.tryAcquire(key)) !== null),
  plain(
    'PermitService.withPermit',
    async ({ permits }, key) => (await permits.withPermit(key, () => Promise.resolve(1))) === 1,
  ),
  plain('PermitService.lead', async ({ permits }, key) => {
    const abort = new AbortController();
    let isLeader = false;
    const work = (): Promise<void> => {
      isLeader = true;
      abort.abort();
      return Promise.resolve();
    };
    await permits.lead(key, work, { signal: abort.signal }).catch(() => undefined);
    return isLeader;
  }),
  plain(
    'ListService.move',
    async ({ lists }, key) => (await lists.move(`${key}:from`, `${key}:to`)) === null,
  ),
  plain('AtomicRedis.status', async (redis) => (await redis.status()).error === undefined),
];
