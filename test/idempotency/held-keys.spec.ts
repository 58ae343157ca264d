import { setTimeout as sleep } from 'node:timers/promises';
import { Controller, Post, Res } from '@nestjs/common';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import {
  AtomicRedis,
  AtomicRedisEvents,
  Idempotent,
  IdempotencyInFlightError,
  IdempotencyService,
  InvalidArgumentError,
  type HeldKey,
  type IdempotencyOptions,
  type IdempotentRun,
  type AtomicRedisEvent,
  type SettledResponse,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type RedisCommand } from 'nestjs-atomic-redis/testing';
import { releaseLastingScript } from '../../lib/idempotency/steps/release-lasting.script.js';
import { useApp } from '../support/app.js';
import { damageRecord } from '../support/idempotency-record.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate, on, useInstances } from './support.js';

const never = (): Promise<never> => new Promise(() => undefined);
const boom = (): never => {
  throw new Error('boom');
};

const responding = (parts: Partial<SettledResponse>) => ({ response: { status: 201, ...parts } });
const withHeaders = (headers: object) => responding({ headers: headers as Record<string, string> });

describe('held keys, whose outcome is unknown', () => {
  const boot = useApp();
  const redis = useRedis();
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));
  const recordOf = async (): Promise<string> => (await redis.client.keys('atomic:idempotency:*'))[0]!;

  const hold = async (idempotency: IdempotencyService, key: string, operation: string): Promise<void> => {
    const held = idempotency.run(
      key,
      async (run) => {
        await run.step('reserve', () => ({ left: 3 }));
        await run.step('charge', boom, { onInterrupted: 'hold' });
      },
      { operation },
    );
    await expect(held).rejects.toThrow('boom');
  };
  const all = async (idempotency: IdempotencyService, options = {}): Promise<HeldKey[]> => {
    // An entry of this very millisecond is not listed.
    await sleep(2);
    const found: HeldKey[] = [];
    let cursor: string | undefined;
    do {
      const page = await idempotency.held({ ...options, ...(cursor !== undefined && { cursor }) });
      found.push(...page.keys);
      ({ cursor } = page);
    } while (cursor !== undefined);
    return found;
  };

  it('[ID-56] are listed page by page with their steps, and disappear once they are settled or forgotten', async () => {
    const { idempotency } = await instances.start();
    for (let i = 0; i < 5; i++) await hold(idempotency, `key ${i}`, i < 3 ? 'orders.create' : 'orders.ship');
    await idempotency.run('done', (run) => run.step('x', () => 1));
    const first = await idempotency.held({ limit: 2 });
    expect(first.keys).toHaveLength(2);
    expect(first.cursor).toEqual(expect.any(String));
    const found = await all(idempotency, { limit: 2 });
    expect(new Set(found.map(({ record }) => record)).size).toBe(5);
    expect(found).toHaveLength(5);
    expect(found[0]).toMatchObject({
      operation: 'orders.create',
      state: 'held',
      reason: 'step-interrupted',
      attempt: 1,
      steps: [
        { name: 'reserve', state: 'done', resultBytes: 10 },
        { name: 'charge', state: 'begun', resultBytes: 0 },
      ],
    });
    const shipped = await all(idempotency, { operation: 'orders.ship', limit: 2 });
    expect(shipped).toHaveLength(2);
    const [one, other] = shipped as [HeldKey, HeldKey];
    expect(await idempotency.settle({ record: one.record }, { result: 'shipped' })).toBe(true);
    expect(await idempotency.settle({ record: one.record }, { result: 'shipped' })).toBe(true);
    expect(await idempotency.settle({ record: one.record }, { result: 'another' })).toBe(false);
    expect(await idempotency.forget({ record: other.record })).toBe(true);
    expect(await idempotency.forget({ record: other.record })).toBe(false);
    expect(await all(idempotency, { operation: 'orders.ship' })).toEqual([]);
    const results = await Promise.all(
      ['key 3', 'key 4'].map((key) => idempotency.run(key, () => 'ran', { operation: 'orders.ship' })),
    );
    expect(results.toSorted()).toEqual(['ran', 'shipped']);
  });

  it('[ID-56] are listed and disappear correctly if the client has a key prefix', async () => {
    const { host, port } = redis.server;
    const connection = { host, port, keyPrefix: 'app:' };
    const { idempotency, module } = await instances.start({ connection });
    const { transactions } = module.get(AtomicRedis);
    await hold(idempotency, 'k', 'orders.create');
    expect((await module.get(AtomicRedis).status()).heldKeys).toBe(1);
    const [held] = (await all(idempotency, { limit: 1 })) as [HeldKey];
    expect(held).toMatchObject({ operation: 'orders.create', steps: [{ name: 'reserve' }, {}] });
    await idempotency.run('committed', async (run) => {
      await run.step('x', () => 1);
      expect(await redis.client.zcard('app:atomic:held:index')).toBe(2);
      await transactions.run(['a'], (tx) => void tx.write.set('a', 1), { completesRun: () => 1 });
      expect(await redis.client.zcard('app:atomic:held:index')).toBe(1);
    });
    expect(await idempotency.settle({ record: held.record }, { result: 'charged' })).toBe(true);
    expect(await all(idempotency)).toEqual([]);
    expect(await idempotency.run('k', boom, { operation: 'orders.create' })).toBe('charged');
  });

  it('[ID-56] are listed for a dead run that no call retries, and not while it lives', async () => {
    const { idempotency } = await instances.start();
    const begun = gate();
    const options: IdempotencyOptions = { operation: 'orders.create' };
    const work = async (run: IdempotentRun): Promise<never> => {
      await run.step('first', () => 1);
      begun.resolve();
      return await never();
    };
    idempotency.run('k', work, options).catch(() => undefined);
    await begun.promise;
    expect(await all(idempotency)).toEqual([]);
    const record = await recordOf();
    const key = { record };
    expect(await idempotency.inspect(key)).toMatchObject({ state: 'running', attempt: 1 });
    await expect(idempotency.forget(key)).rejects.toThrow(IdempotencyInFlightError);
    await expect(idempotency.settle(key, { result: 1 })).rejects.toThrow(IdempotencyInFlightError);
    await damageRecord(redis.client, record, { aliveUntil: '1' });
    const steps = [{ name: 'first', state: 'done', resultBytes: 1 }];
    expect(await all(idempotency)).toEqual([
      { record, operation: 'orders.create', state: 'interrupted', attempt: 1, steps },
    ]);
    expect(await idempotency.inspect(key)).toMatchObject({ state: 'interrupted', attempt: 1, steps });
    const seen = await idempotency.run('k', ({ attempt }) => attempt, options);
    expect(seen).toBe(2);
    expect(await all(idempotency)).toEqual([]);
  });

  it('[ID-56] are listed for a dead run with onAbandoned and new third-party keys', async () => {
    const { idempotency } = await instances.start();
    await hold(idempotency, 'k', 'orders.create');
    const record = await recordOf();
    expect(await idempotency.forget({ record }, { newKeys: true })).toBe(true);
    const begun = gate();
    const options = { operation: 'orders.create', onAbandoned: 'hold' } as const;
    idempotency.run('k', () => (begun.resolve(), never()), options).catch(() => undefined);
    await begun.promise;
    await damageRecord(redis.client, record, { aliveUntil: '1' });
    expect(await all(idempotency)).toMatchObject([{ record, state: 'interrupted', attempt: 1, steps: [] }]);
  });

  it('[ID-56] stay listed until they are settled, however many more are held since', async () => {
    const heldTtlMs = 600_000;
    const { idempotency } = await instances.start({ idempotency: { heldTtlMs } });
    const failing = idempotency.run('k', (run) => run.step('x', () => 1).then(boom));
    await expect(failing).rejects.toThrow('boom');
    const record = await recordOf();
    // Put there longer ago than a record lives: other attempts have gone on with it since.
    await redis.client.zadd('atomic:held:index', Date.now() - 1.5 * heldTtlMs, record);
    await hold(idempotency, 'other', 'orders.create');
    expect((await all(idempotency)).map((one) => one.record)).toContain(record);
  });

  it('[ID-56] are all listed to an operator even if another one lists them meanwhile', async () => {
    const { idempotency } = await instances.start();
    const keys = Array.from({ length: 9 }, (_, i) => `key ${i}`);
    await Promise.all(keys.map((key) => hold(idempotency, key, 'orders.create')));
    await sleep(2);
    const first = await idempotency.held({ limit: 2 });
    await hold(idempotency, 'new', 'orders.create');
    expect(await all(idempotency)).toHaveLength(10);
    const rest = await all(idempotency, { limit: 20, cursor: first.cursor! });
    expect(new Set([...first.keys, ...rest].map(({ record }) => record)).size).toBe(9);
  });

  it('[ID-56] are counted behind any number of live or finished runs', async () => {
    const { idempotency, module } = await instances.start();
    const count = async (of = module): Promise<number | undefined> =>
      (await of.get(AtomicRedis).status({ timeoutMs: 20_000 })).heldKeys;
    const begun = gate();
    const living = idempotency.run('living', async (run) => {
      await run.step('x', () => 1);
      begun.resolve();
      await never();
    });
    living.catch(() => undefined);
    await begun.promise;
    const lives = (await redis.client.get(await recordOf()))!;
    await hold(idempotency, 'held', 'orders.create');
    const names = Array.from({ length: 1_050 }, (_, i) => `atomic:idempotency:${i}`);
    const [alive, gone] = [names.slice(0, 1_000), names.slice(1_000)];
    await redis.client.mset(alive.flatMap((name) => [name, lives]));
    const putThere = async (some: string[], at: number): Promise<unknown> =>
      await redis.client.zadd('atomic:held:index', ...some.flatMap((name) => [Date.now() - at, name]));
    await putThere(gone, 60_000);
    expect(await count()).toBe(1);
    // Entries of records that are gone have left the index.
    expect(await redis.client.zcard('atomic:held:index')).toBe(2);
    await putThere(alive, 60_000);
    await putThere(gone, 90_000);
    // A call that has to stop on the way has the count of the one before.
    for (let i = 0; i < 3; i++) expect(await count()).toBe(1);
    await putThere(gone, 90_000);
    const fresh = (await instances.start()).module;
    expect([await count(fresh), await count(fresh), await count(fresh)]).toEqual([0, 1, 1]);

    // Several calls come to the end also where one has the time for a few pages only.
    const proxy = await startFaultProxy({ target: redis.server });
    const slow = (await instances.start({ connection: proxy.url })).module.get(AtomicRedis);
    const ofIndex = ({ name, args }: RedisCommand): boolean =>
      name === 'EVALSHA_RO' && args.slice(1, 3).join(' ') === '1 atomic:held:index';
    const pages = proxy.delay({ match: ofIndex, replyMs: 250, times: Infinity });
    await waitFor('the count', async () => (await slow.status({ timeoutMs: 1_500 })).heldKeys === 1);
    expect(pages.count).toBeGreaterThan(10);
    await proxy.stop();
  });

  it('[ID-56] live for as long as they are looked at', async () => {
    const { idempotency } = await instances.start({ idempotency: { heldTtlMs: 600_000 } });
    await idempotency.run('k', boom, { onError: 'hold' }).catch(() => undefined);
    const record = await recordOf();
    await redis.client.pexpire(record, 60_000);
    expect(await all(idempotency)).toMatchObject([{ record, state: 'held', reason: 'outcome-unknown' }]);
    expect(await redis.client.pttl(record)).toBeGreaterThan(500_000);
    await redis.client.del(record);
    // An entry that was looked at in this millisecond is not listed again.
    await waitFor('the entry to leave the index', async () => {
      expect(await all(idempotency)).toEqual([]);
      return (await redis.client.exists('atomic:held:index')) === 0;
    });
  });

  it('[ID-56] keep their third-party keys when they are forgotten, unless new ones are requested', async () => {
    const { idempotency } = await instances.start();
    const keyOf = async (): Promise<string> => {
      let key = '';
      const held = idempotency.run('k', (run) =>
        run.step('charge', (step) => ((key = step.key), boom()), { onInterrupted: 'hold' }),
      );
      await held.catch(() => undefined);
      return key;
    };
    const record = async () => ({ record: await recordOf() });
    const first = await keyOf();
    expect(await idempotency.forget(await record())).toBe(true);
    expect(await keyOf()).toBe(first);
    expect(await idempotency.forget(await record(), { newKeys: true })).toBe(true);
    const second = await keyOf();
    expect(second).not.toBe(first);
    expect(await idempotency.forget(await record())).toBe(true);
    expect(await keyOf()).toBe(second);
    // A failure without a step in between forgets nothing of that.
    expect(await idempotency.forget(await record())).toBe(true);
    await expect(idempotency.run('k', boom)).rejects.toThrow('boom');
    expect(await keyOf()).toBe(second);
  });

  it('[ID-56] get the new third-party keys even after a failure whose reply was lost', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const { idempotency } = await instances.start({ connection: proxy.url });
    await hold(idempotency, 'k', 'orders.create');
    expect(await idempotency.forget({ record: await recordOf() }, { newKeys: true })).toBe(true);
    const keyOf = async (): Promise<string> => {
      let key = '';
      const work = (run: IdempotentRun): never => ((key = run.keyFor('x')), boom());
      const failing = idempotency.run('k', work, { operation: 'orders.create', timeoutMs: 10_000 });
      await expect(failing).rejects.toThrow('boom');
      return key;
    };
    const first = await keyOf();
    const lost = proxy.loseReplies(on(releaseLastingScript));
    expect(await keyOf()).toBe(first);
    expect(lost.count).toBe(1);
    expect(await keyOf()).toBe(first);
    await proxy.stop();
  });

  it('[ID-56] of a route are settled with a response, which clients receive', async () => {
    @Controller('orders')
    class Orders {
      @Post()
      @Idempotent({ onError: 'hold' })
      create(): never {
        return boom();
      }
    }
    const app = await boot.http({ connection: redis.server.url }, { controllers: [Orders] });

    const idempotency = app.get(IdempotencyService);
    const post = async () =>
      await fetch(`${await app.getUrl()}/orders`, { method: 'POST', headers: { 'idempotency-key': 'k' } });
    expect((await post()).status).toBe(500);
    expect((await post()).status).toBe(503);
    expect((await app.get(AtomicRedis).status()).heldKeys).toBe(1);
    const [held] = (await idempotency.held()).keys as [HeldKey];
    expect(held).toMatchObject({ operation: 'POST /orders', state: 'held' });
    const response = { status: 201, headers: { Location: '/orders/7' }, body: { id: 7 } };
    await expect(
      idempotency.settle(
        { record: held.record },
        { response: { ...response, headers: { 'Set-Cookie': 'a' } } },
      ),
    ).rejects.toThrow(InvalidArgumentError);
    expect(await idempotency.settle({ record: held.record }, { response })).toBe(true);
    const answer = await post();
    expect(answer.status).toBe(201);
    expect(answer.headers.get('location')).toBe('/orders/7');
    expect(answer.headers.get('idempotency-replayed')).toBe('true');
    expect(await answer.json()).toEqual({ id: 7 });
    expect((await app.get(AtomicRedis).status()).heldKeys).toBe(0);
  });

  it.each([
    ['returned', 'Express', undefined],
    ['sent', 'Express', undefined],
    ['returned', 'Fastify', new FastifyAdapter()],
    ['sent', 'Fastify', new FastifyAdapter()],
  ])('[ID-56] of a route whose answer is %s are settled with a result on %s', async (path, _, adapter) => {
    @Controller('orders')
    class Orders {
      @Post('returned')
      @Idempotent({ onError: 'hold' })
      returned(): never {
        return boom();
      }

      @Post('sent')
      @Idempotent({ onError: 'hold' })
      sent(@Res() response: unknown): never {
        expect(response).toBeDefined();
        return boom();
      }
    }
    const parts = { controllers: [Orders], ...(adapter && { adapter }) };
    const app = await boot.http({ connection: redis.server.url }, parts);
    const idempotency = app.get(IdempotencyService);
    const url = await app.getUrl();
    const post = () =>
      fetch(`${url}/orders/${path}`, { method: 'POST', headers: { 'idempotency-key': 'k' } });
    expect((await post()).status).toBe(500);
    const [{ record }] = (await idempotency.held()).keys as [HeldKey];
    expect(await idempotency.settle({ record }, { result: { id: 7 } })).toBe(true);
    const answer = await post();
    expect(answer.status).toBe(201);
    expect(answer.headers.get('idempotency-replayed')).toBe('true');
    expect(await answer.json()).toEqual({ id: 7 });
  });

  it('[ID-56] and finished steps that a resumed run never requests are reported by events', async () => {
    const { idempotency, events, module } = await instances.start();
    const unused: Extract<AtomicRedisEvent, { type: 'steps.unused' }>[] = [];
    module.get(AtomicRedisEvents).subscribe((event) => {
      if (event.type === 'steps.unused') unused.push(event);
    });
    const first = idempotency.run('k', async (run) => {
      await run.step('old name', () => 1);
      await run.step('other', () => 1);
      boom();
    });
    await expect(first).rejects.toThrow('boom');
    await idempotency.run('k', (run) => run.step('other', boom), { operation: '' });
    await waitFor('the event', () => unused.length === 1);
    expect(unused).toMatchObject([{ steps: ['old name'] }]);
    await hold(idempotency, 'held', 'orders.create');
    await waitFor('the events', () => events.length === 3);
    expect(events).toMatchObject([
      { outcome: 'released', attempt: 1 },
      { outcome: 'completed', attempt: 2 },
      { outcome: 'held', reason: 'step-interrupted', operation: 'orders.create' },
    ]);
  });

  it.each<[string, (idempotency: IdempotencyService) => Promise<unknown>]>([
    ['options.cursor', (idempotency) => idempotency.held({ cursor: 'none' })],
    ['options.limit', (idempotency) => idempotency.held({ limit: 0 })],
    ['settlement', (idempotency) => idempotency.settle('k', {} as never)],
    ['settlement.result', (idempotency) => idempotency.settle('k', { result: new Map() })],
    ['settlement', (idempotency) => idempotency.settle('k', { result: 1, response: { status: 201 } })],
    ['settlement', (idempotency) => idempotency.settle('k', { response: undefined as never })],
    ['settlement.response.status', (idempotency) => idempotency.settle('k', { response: {} as never })],
    ['settlement.response.body', (idempotency) => idempotency.settle('k', responding({ body: 10n }))],
    ['settlement.response.body', (idempotency) => idempotency.settle('k', responding({ body: boom }))],
    ['settlement.response', (idempotency) => idempotency.settle('k', responding({ body: 'x'.repeat(2e6) }))],
    ['settlement.response.headers', (idempotency) => idempotency.settle('k', withHeaders(new Headers()))],
    [
      'settlement.response.headers.link',
      (idempotency) => idempotency.settle('k', withHeaders({ link: '\n' })),
    ],
    [
      'settlement.response.headers.link',
      (idempotency) => idempotency.settle('k', withHeaders({ link: '€' })),
    ],
    [
      'settlement.response.headers.a b',
      (idempotency) => idempotency.settle('k', withHeaders({ 'a b': 'c' })),
    ],
    ['options.newKeys', (idempotency) => idempotency.forget('k', { newKeys: 1 as never })],
  ])('[ARG-1] refuse a wrong %s', async (argument, call) => {
    const { idempotency } = await instances.start();
    await expect(call(idempotency)).rejects.toMatchObject({ argument });
  });
});
