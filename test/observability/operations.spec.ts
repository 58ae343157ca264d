import {
  defineScript,
  type AtomicRedis,
  type AtomicRedisEvent,
  type Permit,
  type QueueJob,
} from 'nestjs-atomic-redis';
import type { OperationType, TerminalEvent } from '../../lib/observability/event-types.js';
import { waitFor } from '../support/wait-for.js';
import { isTerminal, useObserved } from './support.js';

const KEY = 'raw-key:{secret}';
const VALUE = 'raw-value';

const script = defineScript({
  name: 'test.set',
  keys: ['key'],
  args: ['value'],
  lua: `return redis.call('SET', KEYS[1], ARGV[1])`,
  reply: String,
});

interface Case {
  /** Before the call, unobserved. */
  readonly before?: (redis: AtomicRedis) => Promise<unknown>;
  readonly call: (redis: AtomicRedis, prepared: never) => Promise<unknown>;
  readonly outcome: 'applied' | 'not-applied';
  /** Operations within it, by their own events. */
  readonly beside?: readonly OperationType[];
}

const pushed = async (redis: AtomicRedis): Promise<QueueJob> => {
  await redis.queues.get('mails').push(VALUE);
  return (await redis.queues.get('mails').take())!;
};
const dead = async (redis: AtomicRedis): Promise<void> => {
  const job = await pushed(redis);
  for (let next: QueueJob | null = job; next; next = await redis.queues.get('mails').take())
    await next.retry({ delayMs: 0 });
};
const held = async (redis: AtomicRedis): Promise<string> => {
  await redis.counters.add(KEY, 5);
  return (await redis.reservations.hold(KEY, 2, { ttlMs: 60_000 })).id;
};
const minute = { key: KEY, limit: 9, perMs: 60_000 };
const legs = [{ from: KEY, to: `${KEY}:to`, amount: 2 }];
const log = { log: `${KEY}:log` };

/** One call of each operation. A new one does not compile until it is here. */
const CASES: { readonly [Type in OperationType]: Case } = {
  'transactions.run': {
    call: ({ transactions }) => transactions.run([KEY], (tx) => void tx.write.set(KEY, VALUE)),
    outcome: 'applied',
  },
  'idempotency.inspect': { call: ({ idempotency }) => idempotency.inspect(KEY), outcome: 'not-applied' },
  'idempotency.forget': {
    before: ({ idempotency }) => idempotency.run(KEY, () => VALUE),
    call: ({ idempotency }) => idempotency.forget(KEY),
    outcome: 'applied',
  },
  'idempotency.held': { call: ({ idempotency }) => idempotency.held(), outcome: 'not-applied' },
  'idempotency.settle': {
    before: ({ idempotency }) =>
      idempotency
        .run(KEY, () => Promise.reject(new Error('failed')), { onError: 'hold' })
        .catch(() => undefined),
    call: ({ idempotency }) => idempotency.settle(KEY, { result: VALUE }),
    outcome: 'applied',
  },
  'counters.add': { call: ({ counters }) => counters.add(KEY, 7), outcome: 'applied' },
  'counters.addAll': {
    call: ({ counters }) => counters.addAll([{ key: KEY, amount: 7 }]),
    outcome: 'applied',
  },
  'counters.undo': {
    before: ({ counters }) => counters.addUndoable(KEY, 7),
    call: (_, count: { undo: () => Promise<boolean> }) => count.undo(),
    outcome: 'applied',
  },
  'counters.get': { call: ({ counters }) => counters.get(KEY), outcome: 'not-applied' },
  'counters.reset': {
    before: ({ counters }) => counters.add(KEY, 7),
    call: ({ counters }) => counters.reset(KEY),
    outcome: 'applied',
  },
  'reservations.hold': {
    before: ({ counters }) => counters.add(KEY, 7),
    call: ({ reservations }) => reservations.hold(KEY, 2, { ttlMs: 60_000 }),
    outcome: 'applied',
  },
  'reservations.confirm': {
    before: held,
    call: ({ reservations }, id: string) => reservations.confirm(id),
    outcome: 'applied',
  },
  'reservations.release': {
    before: held,
    call: ({ reservations }, id: string) => reservations.release(id),
    outcome: 'applied',
  },
  'reservations.extend': {
    before: held,
    call: ({ reservations }, id: string) => reservations.extend(id, 90_000),
    outcome: 'applied',
  },
  'reservations.list': {
    before: held,
    call: ({ reservations }) => reservations.list(KEY),
    outcome: 'not-applied',
  },
  'values.compareAndSet': {
    call: ({ values }) => values.compareAndSet(KEY, null, VALUE),
    outcome: 'applied',
  },
  'values.compareAndDelete': {
    call: ({ values }) => values.compareAndDelete(KEY, VALUE),
    outcome: 'not-applied',
  },
  'values.compareAndSetField': {
    call: ({ values }) => values.compareAndSetField(KEY, 'raw-field', null, VALUE),
    outcome: 'applied',
  },
  'values.compareAndDeleteField': {
    call: ({ values }) => values.compareAndDeleteField(KEY, 'raw-field', VALUE),
    outcome: 'not-applied',
  },
  'values.getAndSet': { call: ({ values }) => values.getAndSet(KEY, VALUE), outcome: 'applied' },
  'values.getAndDelete': { call: ({ values }) => values.getAndDelete(KEY), outcome: 'not-applied' },
  'values.getAndExpire': {
    before: ({ values }) => values.getAndSet(KEY, VALUE),
    call: ({ values }) => values.getAndExpire(KEY, { ttlMs: 60_000 }),
    outcome: 'applied',
  },
  'auditedHashes.set': {
    call: ({ auditedHashes }) => auditedHashes.set(KEY, 'raw-field', VALUE, log),
    outcome: 'applied',
  },
  'auditedHashes.delete': {
    call: ({ auditedHashes }) => auditedHashes.delete(KEY, 'raw-field', log),
    outcome: 'not-applied',
  },
  'auditedHashes.update': {
    call: ({ auditedHashes }) => auditedHashes.update(KEY, { 'raw-field': null }, log),
    outcome: 'not-applied',
  },
  'auditedHashes.history': {
    call: ({ auditedHashes }) => auditedHashes.history(`${KEY}:log`),
    outcome: 'not-applied',
  },
  'transfers.transfer': {
    before: ({ counters }) => counters.add(KEY, 7),
    call: ({ transfers }) => transfers.transfer(legs[0]!),
    outcome: 'applied',
  },
  'transfers.transferAll': {
    before: ({ counters }) => counters.add(KEY, 7),
    call: ({ transfers }) => transfers.transferAll(legs),
    outcome: 'applied',
  },
  'transfers.acrossSlots': {
    before: ({ counters }) => counters.add(KEY, 7),
    call: ({ transfers }) => transfers.acrossSlots({ ...legs[0]!, reference: VALUE }),
    outcome: 'applied',
  },
  'transfers.pending': { call: ({ transfers }) => transfers.pending({ from: KEY }), outcome: 'not-applied' },
  'transfers.recover': { call: ({ transfers }) => transfers.recover({ from: KEY }), outcome: 'not-applied' },
  'scripts.run': {
    call: ({ scripts }) => scripts.run(script, { keys: { key: KEY }, args: { value: VALUE } }),
    outcome: 'applied',
  },
  'shadowKeys.replace': {
    call: ({ shadowKeys }) => shadowKeys.replace(KEY, { f: VALUE }),
    outcome: 'applied',
  },
  'shadowKeys.replaceAll': {
    call: ({ shadowKeys }) => shadowKeys.replaceAll({ [KEY]: { f: VALUE } }),
    outcome: 'applied',
  },
  'shadowKeys.rollback': { call: ({ shadowKeys }) => shadowKeys.rollback(KEY), outcome: 'not-applied' },
  'queues.push': { call: ({ queues }) => queues.get('mails').push(VALUE), outcome: 'applied' },
  'queues.pushMany': { call: ({ queues }) => queues.get('mails').pushMany([]), outcome: 'not-applied' },
  'queues.take': { call: ({ queues }) => queues.get('mails').take(), outcome: 'not-applied' },
  'queues.ack': { before: pushed, call: (_, job: QueueJob) => job.ack(), outcome: 'applied' },
  'queues.ackAndTakeNext': {
    before: pushed,
    call: (_, job: QueueJob) => job.ackAndTakeNext(),
    outcome: 'applied',
  },
  'queues.retry': {
    before: pushed,
    call: (_, job: QueueJob) => job.retry({ reason: VALUE }),
    outcome: 'applied',
  },
  'queues.extend': { before: pushed, call: (_, job: QueueJob) => job.extend(), outcome: 'applied' },
  'queues.process': {
    before: ({ queues }) => queues.get('mails').push(VALUE),
    call: async ({ queues }) => {
      const consumer = queues.get('mails').consume(() => undefined);
      await waitFor('the job', async () => {
        const { pending, processing } = await queues.get('mails').counts();
        return pending + processing === 0;
      });
      await consumer.stop();
    },
    outcome: 'applied',
    beside: ['queues.counts'],
  },
  'queues.counts': { call: ({ queues }) => queues.get('mails').counts(), outcome: 'not-applied' },
  'queues.listDead': {
    before: dead,
    call: ({ queues }) => queues.get('mails').deadLetters.list(),
    outcome: 'not-applied',
  },
  'queues.requeueDead': {
    before: dead,
    call: ({ queues }) => queues.get('mails').deadLetters.requeueAll(),
    outcome: 'applied',
  },
  'queues.purgeDead': {
    before: dead,
    call: ({ queues }) => queues.get('mails').deadLetters.purgeAll(),
    outcome: 'applied',
  },
  'permits.acquire': { call: ({ permits }) => permits.acquire(KEY), outcome: 'applied' },
  'permits.tryAcquire': {
    before: ({ permits }) => permits.acquire(KEY),
    call: ({ permits }) => permits.tryAcquire(KEY),
    outcome: 'not-applied',
  },
  'permits.release': {
    before: ({ permits }) => permits.acquire(KEY),
    call: (_, permit: Permit) => permit.release(),
    outcome: 'applied',
  },
  'limits.take': { call: ({ limits }) => limits.take(minute), outcome: 'applied' },
  'limits.peek': { call: ({ limits }) => limits.peek(minute), outcome: 'not-applied' },
  'limits.reset': {
    before: ({ limits }) => limits.take(minute),
    call: ({ limits }) => limits.reset(minute),
    outcome: 'applied',
  },
  'limits.reserve': {
    call: ({ limits }) => limits.reserve(minute, { ttlMs: 60_000 }),
    outcome: 'applied',
  },
  'limits.settle': {
    before: async ({ limits }) => (await limits.reserve(minute, { ttlMs: 60_000 })).id,
    call: ({ limits }, id: string) => limits.settle(id, 1),
    outcome: 'applied',
  },
  'lists.move': { call: ({ lists }) => lists.move(KEY, `${KEY}:to`), outcome: 'not-applied' },
};

const terminalOf = (events: readonly AtomicRedisEvent[], type: string): TerminalEvent[] =>
  events.filter(isTerminal).filter((event) => event.type === type);

describe('the event of each operation', () => {
  const observed = useObserved();

  it.each(Object.entries(CASES) as [OperationType, Case][])(
    '[OBS-1] reports %s',
    async (type, { before, call, outcome, beside = [] }) => {
      const { redis, during } = await observed.start();
      let prepared: unknown;
      await during(async () => (prepared = await before?.(redis)));
      const events = await during(() => call(redis, prepared as never));
      expect(events.filter((event) => event.type !== type && !beside.includes(event.type as never))).toEqual(
        [],
      );
      expect(terminalOf(events, type)).toEqual([
        expect.objectContaining({ registration: 'default', outcome, durationMs: expect.any(Number) }),
      ]);
      expect(events[0]).not.toHaveProperty('error');
      expect(JSON.stringify(events)).not.toMatch(/secret|raw-/);
    },
  );

  // An operation that is part of another, or runs until it is stopped, has no event of its own.
  const refusable = (Object.entries(CASES) as [OperationType, Case][]).filter(
    ([type]) => !['queues.process', 'counters.undo'].includes(type) && !type.startsWith('idempotency'),
  );

  it.each(refusable)('[OBS-1] reports %s when Redis is gone', async (type, { before, call }) => {
    const patient = await observed.start();
    let prepared: unknown;
    await patient.during(async () => (prepared = await before?.(patient.redis)));
    const impatient = { lazyConnect: true, timeoutMs: 150, transactions: { timeoutMs: 150 } };
    const { redis, during } = await observed.start(impatient);
    observed.proxy.refuseConnections(true);
    observed.proxy.disconnectAll();
    let thrown: unknown;
    const work = (): Promise<unknown> =>
      call(redis, prepared as never).catch((error: unknown) => {
        thrown = error;
      });
    // The preparations belong to the other case.
    let events: AtomicRedisEvent[] = [];
    const here = await during(async () => (events = await patient.during(work)));
    events.push(...here);
    if (type === 'queues.pushMany') return expect(thrown).toBeUndefined();
    expect(terminalOf(events, type)).toEqual([
      expect.objectContaining({
        error: (thrown as { code: string }).code,
        outcome: (thrown as { outcome: string }).outcome,
      }),
    ]);
    expect(events.filter(isTerminal)).toHaveLength(1);
    expect(JSON.stringify(events)).not.toMatch(/secret|raw-/);
  });

  it('[OBS-1] reports a call that was refused for its arguments, too', async () => {
    const { redis, during } = await observed.start();
    const refused = [
      () => redis.counters.add('', 1),
      () => redis.transactions.run([], () => 1),
      () => redis.idempotency.run('', () => 1),
      () => redis.idempotency.run('k', undefined as never),
      () => redis.idempotency.run('k', () => 1, null as never),
      () => redis.queues.get('q').push(undefined),
      () => redis.scripts.run(undefined as never, {} as never),
    ];
    for (const call of refused)
      expect(await during(call)).toEqual([expect.objectContaining({ error: 'INVALID_ARGUMENT' })]);
  });
});
