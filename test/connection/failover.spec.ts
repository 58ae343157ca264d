import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { AtomicRedis, AtomicRedisOptions } from '../../lib/index.js';
import { useBoot } from '../support/boot.js';
import { startFailoverPair, type FailoverPair } from '../support/failover-pair.js';
import { waitFor } from '../support/wait-for.js';
import { FAILOVER_CALLS } from './failover-calls.js';

/** A machine that stands still for a while must not make a call fail. */
const PATIENT: Partial<AtomicRedisOptions> = {
  timeoutMs: 20_000,
  transactions: { timeoutMs: 20_000 },
  idempotency: { timeoutMs: 20_000 },
  queues: { maxDeliveries: 2, retry: { minMs: 0, maxMs: 0 } },
};

describe('a planned failover behind one address', () => {
  const { boot } = useBoot();
  let pair: FailoverPair;

  beforeAll(async () => {
    pair = await startFailoverPair();
  });
  afterAll(() => pair?.stop());

  it('[SRV-14] every public call recovers by itself, one promotion for all', async () => {
    // Each has an application of its own, so that none lives on what another one has found.
    const calls: { name: string; finish: () => Promise<boolean> }[] = [];
    for (const { name, run } of FAILOVER_CALLS) {
      const { redis } = await boot({ connection: pair.address.url, namespace: 'atomic:', ...PATIENT });
      const key = `{${name}}`;
      await redis.transactions.run([`${key}:warm`], (tx) => void tx.write.set(`${key}:warm`, 1));
      calls.push({ name, finish: await run(redis, key) });
    }
    await pair.failOver();
    const failed: string[] = [];
    for (const { name, finish } of calls) {
      const right = await finish().catch((error: unknown) => error);
      if (right !== true) failed.push(`${name}: ${String(right)}`);
    }
    expect(failed).toEqual([]);
  }, 120_000);

  it('[SRV-14] the table lists every public call', () => {
    const named = FAILOVER_CALLS.map(({ name }) => name).toSorted();
    expect(named).toEqual(publicCalls().toSorted());
  });

  it.each([
    [
      'a wait for an element',
      (redis: AtomicRedis) => redis.lists.move('{w}from', '{w}to', { waitMs: 20_000 }),
      'moved',
    ],
    [
      'a wait for a job',
      async (redis: AtomicRedis) => (await redis.queues.get<string>('w').take({ waitMs: 20_000 }))?.payload,
      'job',
    ],
  ])('[SRV-14] %s reaches the new master', async (_, wait, expected) => {
    const { redis } = await boot({ connection: pair.address.url, namespace: 'atomic:', ...PATIENT });
    const found = wait(redis);
    await waitFor('it to wait there', async () =>
      /cmd=(blmove|bzpopmin)/.test(String(await pair.master.client.client('LIST'))),
    );
    await pair.failOver();
    const other = await boot({ connection: pair.address.url, namespace: 'atomic:', ...PATIENT });
    if (expected === 'job') await other.redis.queues.get<string>('w').push('job');
    else await pair.master.client.rpush('{w}from', 'moved');
    expect(await found).toBe(expected);
  });

  it('[PM-5] [PM-2] a permit stays held and enforced across it, and passes to the waiting caller with a higher fence', async () => {
    const { redis } = await boot({ connection: pair.address.url, namespace: 'atomic:', ...PATIENT });
    const { permits, values } = redis;
    const options = { leaseMs: 60_000, waitMs: 60_000 };
    const permit = await permits.acquire('{held}', options);
    const waiting = permits.acquire('{held}', options);
    await waitFor('it to stand in line', async () => {
      const [line] = await pair.master.client.keys('atomic:permit-line:*');
      return line !== undefined;
    });
    await pair.failOver();
    await values.getAndSet('{held}:by', 'first', { permit });
    expect(permit.signal.aborted).toBe(false);
    expect(await permit.release()).toBe(true);
    const next = await waiting;
    expect(next.fence).toBeGreaterThan(permit.fence);
    const late = values.getAndSet('{held}:by', 'late', { permit });
    await expect(late).rejects.toMatchObject({ code: 'LEASE_LOST' });
    expect(await values.getAndSet('{held}:by', 'next', { permit: next })).toBe('first');
  });

  it('[SRV-14] READONLY alone is enough to find the new master', async () => {
    const { redis } = await boot({ connection: pair.address.url, namespace: 'atomic:', ...PATIENT });
    const before = (await redis.counters.add('alone', 1)).value;
    // The question that is asked once a second finds nothing.
    const blind = pair.address.answer('$11\r\nrole:master\r\n', {
      match: ({ name, args }) => name === 'INFO' && args[0]?.toString() === 'replication',
      times: Infinity,
    });
    await pair.failOver();
    expect((await redis.counters.add('alone', 1)).value).toBe(before + 1);
    await redis.transactions.run(['alone'], (tx) => void tx.write.set('alone', 0));
    blind.cancel();
  });

  it('[SRV-14] a waiting duplicate gets its result from the new master', async () => {
    const { redis } = await boot({ connection: pair.address.url, namespace: 'atomic:', ...PATIENT });
    let finish = (): void => undefined;
    const finished = new Promise<void>((resolve) => (finish = resolve));
    const options = { onDuplicate: 'wait', waitTimeoutMs: 20_000 } as const;
    const first = redis.idempotency.run('waiting', () => finished.then(() => 7));
    await waitFor('the claim', async () => (await redis.idempotency.inspect('waiting'))?.state === 'running');
    const second = redis.idempotency.run('waiting', () => Promise.reject(new Error('ran twice')), options);
    await waitFor('its subscription', async () =>
      /cmd=ssubscribe/.test(String(await pair.master.client.client('LIST'))),
    );
    await pair.failOver();
    finish();
    expect([await first, await second]).toEqual([7, 7]);
  });

  it('[SRV-14] a durable call finds the replica of the new master', async () => {
    const { redis } = await boot({ connection: pair.address.url, namespace: 'atomic:', ...PATIENT });
    const durability = { replicas: 1, timeoutMs: 20_000 };
    await redis.counters.add('durable', 1, { durability });
    await pair.failOver();
    expect((await redis.counters.add('durable', 1, { durability })).value).toBe(2);
    await redis.transactions.run(['d'], (tx) => void tx.write.set('d', 1), { durability });
  });

  it('[SRV-14] under load, everything acknowledged and replicated is present exactly once', async () => {
    const { redis } = await boot({ connection: pair.address.url, namespace: 'atomic:', ...PATIENT });
    const durability = { replicas: 1, timeoutMs: 20_000 };
    let over = false;
    let done = 0;
    const failed: unknown[] = [];
    const caller = async (): Promise<void> => {
      while (!over) {
        await redis.counters.add('load', 1, { durability }).then(
          () => done++,
          (error: unknown) => failed.push(error),
        );
      }
    };
    const callers = Promise.all([caller(), caller(), caller()]);
    for (let i = 0; i < 3; i++) {
      const before = done;
      await waitFor('some calls', () => done > before + 20);
      await pair.failOver();
    }
    const before = done;
    await waitFor('more calls', () => done > before + 20);
    over = true;
    await callers;
    for (const error of failed) expect(error).toMatchObject({ outcome: expect.anything() as string });
    const value = Number(await pair.master.client.get('load'));
    const mayBe = failed.filter((error) => (error as { outcome?: string }).outcome !== 'not-applied').length;
    expect(value).toBeGreaterThanOrEqual(done);
    expect(value).toBeLessThanOrEqual(done + mayBe);
  }, 60_000);

  it.each([
    ['that returns false', (): boolean => false],
    [
      'that returns true for READONLY',
      (error: Error): 1 | 2 | false => (error.message.includes('READONLY') ? 2 : false),
    ],
  ])('[SRV-15] the library recovers with a reconnectOnError %s', async (_, reconnectOnError) => {
    const { host, port } = pair.address;
    const { redis } = await boot({
      connection: { host, port, reconnectOnError },
      namespace: 'atomic:',
      ...PATIENT,
    });
    const before = (await redis.counters.add('own', 1)).value;
    await pair.failOver();
    expect((await redis.counters.add('own', 1)).value).toBe(before + 1);
  });

  it('[SRV-15] a reply that matches the user’s reconnectOnError makes the library reconnect', async () => {
    const { host, port } = pair.address;
    const asked: string[] = [];
    const reconnectOnError = (error: Error): boolean => {
      asked.push(error.message);
      return error.message.includes('WRONGTYPE');
    };
    const { redis } = await boot({
      connection: { host, port, reconnectOnError },
      namespace: 'atomic:',
      ...PATIENT,
    });
    await pair.master.client.rpush('list', 'x');
    const before = pair.address.connections;
    await expect(redis.transactions.run(['list'], (tx) => tx.read.get('list'))).rejects.toThrow('WRONGTYPE');
    expect(asked.join()).toContain('WRONGTYPE');
    await redis.transactions.run(['other'], (tx) => void tx.write.set('other', 1));
    expect(pair.address.connections).toBeGreaterThan(before + 1);
  });
});

/**
 * The public methods of the services that ask Redis for something, as the sources have them:
 * `Service.method`.
 */
function publicCalls(): string[] {
  const own = new Set([
    'constructor',
    'claim',
    'operationOf',
    'runAs',
    'close',
    'stopConsumers',
    'verify',
    'currentTransaction',
    'heldCount',
    'throttle',
    'current',
    'endWaits',
    'stopLeaders',
    'ReliableQueueService.get',
  ]);
  const sources: Record<string, string> = {
    TransactionService: 'transactions/transaction.service',
    IdempotencyService: 'idempotency/idempotency.service',
    CounterService: 'counters/counter.service',
    ReservationService: 'counters/reservations/reservation.service',
    ValueService: 'values/value.service',
    AuditedHashService: 'audited-hashes/audited-hash.service',
    TransferService: 'transfers/transfer.service',
    ScriptService: 'own-scripts/script.service',
    ShadowKeyService: 'shadow-keys/shadow-key.service',
    ReliableQueue: 'queues/reliable-queue',
    QueueJob: 'queues/queue-job',
    DeadLetters: 'queues/dead-letters',
    ListService: 'lists/list.service',
    LimitService: 'limits/limit.service',
    PermitService: 'permits/permit.service',
    AtomicRedis: 'atomic-redis',
  };
  return Object.entries(sources).flatMap(([name, file]) => {
    const source = readFileSync(path.join(__dirname, `../../lib/${file}.ts`), 'utf8');
    const body = source.slice(source.indexOf(`export class ${name}`)).split(/^}/m)[0]!;
    const methods = [...body.matchAll(/^ {2}(?:async )?(\w+)(?:<[^(]*>)?\(/gm)].map(([, method]) => method!);
    return [...new Set(methods)].filter((method) => !own.has(method)).map((method) => `${name}.${method}`);
  });
}
