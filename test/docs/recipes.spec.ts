import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { IdempotencyService, ReliableQueueService } from 'nestjs-atomic-redis';
import { FakeKafka } from '../support/fake-kafka.js';
import { FakeRabbit } from '../support/fake-rabbit.js';
import { waitFor } from '../support/wait-for.js';
import { routesOf, useExample } from './examples.js';

const RECIPES = [
  'payments',
  'inventory',
  'webhooks',
  'consumers',
  'cron',
  'bullmq',
  'graphql',
  'checkout',
  'outbox',
];

describe('[DOC-1] docs/recipes/payments.md', () => {
  const example = useExample('docs/recipes/payments.md');
  const pay = (key: string, body: object) =>
    example.send('POST', '/payments', body, { 'idempotency-key': key });

  it('charges a card once, also when the provider’s answer was lost', async () => {
    const order = { orderId: '7', card: 'slow', cents: 100 };
    expect((await pay('a', order)).status).toBe(500);
    const retry = await pay('a', order);
    expect(retry).toMatchObject({ status: 201, body: { charge: 'ch-order-7' } });
    expect((await pay('a', order)).headers.get('idempotency-replayed')).toBe('true');
    const { charges } = example.instanceOf<{ charges: Map<string, number> }>('CardProvider');
    expect([...charges]).toEqual([['order-7', 100]]);
  });

  it('replays that a card was declined', async () => {
    const order = { orderId: '8', card: 'declined', cents: 100 };
    expect((await pay('b', order)).status).toBe(402);
    const retry = await pay('b', order);
    expect(retry.status).toBe(402);
    expect(retry.headers.get('idempotency-replayed')).toBe('true');
  });

  it('does not send a payout again of which it is not known whether it was made, until somebody has looked', async () => {
    const { sent } = example.instanceOf<{ sent: string[] }>('Bank');
    const send = () => example.send('POST', '/payouts/slow-1');
    const first = await send();
    expect(first).toMatchObject({ status: 503, body: { code: 'OUTCOME_UNKNOWN' } });
    expect(first.headers.get('retry-after')).toBeNull();
    expect(await send()).toMatchObject({ status: 503, body: { code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' } });
    expect(sent).toEqual(['slow-1']);
    const freed = await example.send('POST', '/payouts/slow-1/was-not-made');
    expect(freed.body).toEqual({ freed: true });
    await send();
    expect(sent).toEqual(['slow-1', 'slow-1']);
  });
});

describe('[DOC-1] docs/recipes/inventory.md', () => {
  const { send } = useExample('docs/recipes/inventory.md');
  let keys = 0;
  const post = (pathname: string, body: object = {}, key = `k${++keys}`) =>
    send('POST', `/inventory/${pathname}`, body, { 'idempotency-key': key });

  it('sells and holds what is there, and no more', async () => {
    for (let i = 0; i < 2; i++) await post('deliveries', { sku: 'tea', quantity: 5 }, 'delivery');
    expect((await send('GET', '/inventory/tea')).body).toEqual({ available: 5 });
    const holds = await Promise.all([1, 2, 3].map(() => post('holds', { sku: 'tea', quantity: 2 })));
    expect(holds.filter(({ status }) => status === 409)).toHaveLength(1);
    const { id } = holds.find(({ status }) => status === 201)!.body as { id: string };
    const confirm = () => post(`holds/${id}/confirmation`, {}, 'confirmation');
    expect([(await confirm()).body, (await confirm()).body]).toEqual([{ sold: 1 }, { sold: 1 }]);
    expect(await post('sales', { lines: [{ sku: 'tea', quantity: 2 }] })).toMatchObject({
      status: 409,
      body: { missing: ['tea'] },
    });
    expect((await post('sales', { lines: [{ sku: 'tea', quantity: 1 }] })).status).toBe(201);
    expect((await send('GET', '/inventory/tea')).body).toEqual({ available: 0 });
  });
});

describe('[DOC-1] docs/recipes/webhooks.md', () => {
  const { send } = useExample('docs/recipes/webhooks.md');
  const deliver = (event: object) => send('POST', '/webhooks/payments', event);
  const paid = async () => (await send('GET', '/orders/paid')).body;
  const received = { status: 200, body: { received: true } };

  it('answers each delivery of an event that was handled with 200, whatever differs between them', async () => {
    await send('POST', '/orders', { orderId: 'o1' });
    const deliveries = await Promise.all(
      [1, 2, 3].map((attempts) => deliver({ id: 'e1', orderId: 'o1', attempts })),
    );
    for (const delivery of deliveries) expect(delivery).toMatchObject(received);
    expect(await deliver({ id: 'e1', orderId: 'o1', attempts: 4 })).toMatchObject(received);
    expect(await paid()).toEqual(['o1']);
    expect((await deliver({ id: 'e1', orderId: 'another' })).status).toBe(422);
  });

  it('handles an event that came before its order once it is delivered again', async () => {
    expect((await deliver({ id: 'e2', orderId: 'o2' })).status).toBe(404);
    await send('POST', '/orders', { orderId: 'o2' });
    for (let i = 0; i < 2; i++) expect(await deliver({ id: 'e2', orderId: 'o2' })).toMatchObject(received);
    expect(await paid()).toEqual(['o1', 'o2']);
  });

  it('takes ids that are numbers, and refuses what is no id', async () => {
    await send('POST', '/orders', { orderId: 'o3' });
    for (let i = 0; i < 2; i++)
      expect(await deliver({ id: 820982911, orderId: 'o3' })).toMatchObject(received);
    expect(await paid()).toEqual(['o1', 'o2', 'o3']);
    expect(await deliver({ orderId: 'o3' })).toMatchObject({ status: 400 });
    expect(await deliver({ id: 1.5, orderId: 'o3' })).toMatchObject({
      status: 400,
      body: { code: 'IDEMPOTENCY_KEY_INVALID' },
    });
  });
});

describe('[DOC-1] docs/recipes/consumers.md', () => {
  const example = useExample('docs/recipes/consumers.md');

  it('handles a message once at each consumer, and leaves no copy behind', async () => {
    const rabbit = new FakeRabbit();
    const kafka = new FakeKafka();
    const { app } = example;
    for (const strategy of [rabbit.server(false), kafka.server])
      app.connectMicroservice({ strategy }, { inheritAppConfig: true });
    await app.startAllMicroservices();
    const paid = (id: string): object => ({ id, orderId: id });
    for (const id of ['1', '1', '2', '1']) {
      rabbit.publish({ pattern: 'orders.paid', data: paid(id) });
      rabbit.publish({ pattern: 'orders.booked', data: paid(id) });
      await kafka.deliver('orders.paid', paid(id));
    }
    await waitFor('all messages', () => rabbit.isEmpty);
    const { body } = await example.send('GET', '/ledger');
    const entries = ['shipped', 'billed', 'booked'].flatMap((what) => [`${what} 1`, `${what} 2`]);
    expect((body as string[]).toSorted()).toEqual(entries.toSorted());
    expect(rabbit.channels.map(({ isClosed }) => isClosed)).toEqual([false]);
    expect(rabbit.rejected).toEqual([]);
  });
});

describe('[DOC-1] docs/recipes/cron.md', () => {
  const example = useExample('docs/recipes/cron.md');

  it('runs once for each tick', async () => {
    const reports = example.instanceOf<{ sent: string[]; hourly(): Promise<{ sent: number }> }>('Reports');
    const hour = () => Math.round(Date.now() / 3_600_000);
    const before = hour();
    const results = await Promise.all([1, 2, 3].map(() => reports.hourly()));
    await example.send('POST', '/reports');
    expect(results[0]).toMatchObject({ sent: expect.any(Number) as number });
    expect(reports.sent).toHaveLength(1 + hour() - before);
  });
});

describe('[DOC-1] docs/recipes/bullmq.md', () => {
  const example = useExample('docs/recipes/bullmq.md');
  const { send } = example;
  interface State {
    completed: number;
    failed: number;
    sent: string[];
  }
  const state = async () => (await send('GET', '/emails')).body as State;

  it('sends a mail once that was queued twice', async () => {
    for (const messageId of ['m1', 'm1', 'm2']) {
      await send('POST', '/emails', { messageId, to: `${messageId}@example.org` });
    }
    const { sent } = await waitFor('all jobs', async () => {
      const now = await state();
      return now.completed === 3 && now;
    });
    expect(sent.toSorted()).toEqual(['m1@example.org', 'm2@example.org']);
  });

  it('counts no attempt of a job that comes while another sends the same mail', async () => {
    const before = await state();
    const email = { messageId: 'm3', to: 'm3@example.org' };
    let end = (): void => undefined;
    const running = example.app
      .get(IdempotencyService)
      .run(email.messageId, () => new Promise<void>((resolve) => (end = resolve)), {
        operation: 'emails.send',
        leaseMs: 1_500,
      });
    await send('POST', '/emails', email);
    await send('POST', '/emails', email);
    await waitFor('both wait', async () => (await example.redis.client.zcard('bull:emails:delayed')) === 2);
    end();
    await running;
    const after = await waitFor('both jobs', async () => {
      const now = await state();
      return now.completed === before.completed + 2 && now;
    });
    expect(after.failed).toBe(before.failed);
    expect(after.sent).toEqual(before.sent);
  });
});

describe('[DOC-1] docs/recipes/graphql.md', () => {
  const { send } = useExample('docs/recipes/graphql.md', () => new FastifyAdapter());

  it('places an order once for each key of a user', async () => {
    const query = 'mutation ($key: ID!, $sku: String!) { placeOrder(key: $key, sku: $sku) { number sku } }';
    const place = async (user: string, key: string, sku: string): Promise<unknown> =>
      (await send('POST', '/graphql', { query, variables: { key, sku } }, { 'x-user': user })).body;
    const first = { data: { placeOrder: { number: 1, sku: 'tea' } } };
    expect(await place('ada', 'k', 'tea')).toEqual(first);
    expect(await place('ada', 'k', 'tea')).toEqual(first);
    expect(await place('ada', 'k', 'jam')).toMatchObject({
      errors: [{ extensions: { code: 'IDEMPOTENCY_MISMATCH' } }],
    });
    expect(await place('grace', 'k', 'tea')).toEqual({ data: { placeOrder: { number: 2, sku: 'tea' } } });
  });
});

describe('[DOC-1] docs/recipes/checkout.md', () => {
  const example = useExample('docs/recipes/checkout.md');

  it('brings every order to its end, once, however often it is begun', async () => {
    const { client } = example.redis;
    await client.mset('stock:tea', 2, 'balance:ada', 100, 'balance:ben', 5);
    const orders = ['1', '2', '3'].map((orderId) => ({ orderId, sku: 'tea', customer: 'ada', cents: 40 }));
    const poor = { orderId: '4', sku: 'tea', customer: 'ben', cents: 40 };
    const stateOf = async (id: string) =>
      ((await example.send('GET', `/checkouts/${id}`)).body as { state: string }).state;
    const end = (id: string) =>
      waitFor(`the end of order ${id}`, async () => {
        const state = await stateOf(id);
        return state !== 'under way' && state;
      });

    await example.send('POST', '/checkouts', poor);
    expect(await end('4')).toBe('not paid');
    await Promise.all([...orders, ...orders].map((order) => example.send('POST', '/checkouts', order)));
    const states = await Promise.all(orders.map(({ orderId }) => end(orderId)));
    expect(states.toSorted()).toEqual(['paid', 'paid', 'sold out']);
    await example.send('POST', '/checkouts', poor);
    const queue = example.app.get(ReliableQueueService).get('checkouts');
    await waitFor('the copies', async () => {
      const { pending, processing } = await queue.counts();
      return pending + processing === 0;
    });
    expect(await client.mget('stock:tea', 'balance:ada', 'balance:ben')).toEqual(['0', '20', '5']);
  });
});

describe('[DOC-1] docs/recipes/outbox.md', () => {
  const example = useExample('docs/recipes/outbox.md');

  it('tells the broker of every order that was placed, and of no other', async () => {
    await example.redis.client.mset('stock:tea', 3, 'stock:slow', 1);
    const place = async (orderId: string, sku: string): Promise<number> =>
      (await example.send('POST', '/orders', { orderId, sku })).status;
    const tea = await Promise.all(['1', '2', '3', '4', '5'].map((id) => place(id, 'tea')));
    expect(tea.toSorted((a, b) => a - b)).toEqual([201, 201, 201, 409, 409]);
    expect([await place('6', 'slow'), await place('6', 'slow')]).toEqual([201, 201]);
    const { messages } = example.instanceOf<{ messages: Map<string, { orderId: string }> }>('Broker');
    await waitFor('the slow one', () => [...messages.values()].some(({ orderId }) => orderId === '6'));
    const stateOf = async (id: string): Promise<string> =>
      ((await example.send('GET', `/orders/${id}`)).body as { state: string }).state;
    await waitFor('that it is known', async () => (await stateOf('6')) === 'announced');
    const placed = tea.flatMap((status, i) => (status === 201 ? [String(i + 1)] : [])).concat('6');
    await waitFor('the others', () => messages.size === 4);
    expect([...messages.values()].map(({ orderId }) => orderId).toSorted()).toEqual(placed.toSorted());
    const queue = example.app.get(ReliableQueueService).get('outbox');
    await waitFor('the end', async () => (await queue.counts()).processing === 0);
    expect(await queue.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
    expect(await stateOf('99')).toBe('unknown');
  });
});

describe('[DOC-1] the recipes', () => {
  // Runs last: by then each of them has been called above.
  it.each(RECIPES)('have each of their routes called by a test: %s', (recipe) => {
    const { declared, called } = routesOf(`docs/recipes/${recipe}.md`);
    // Resolvers and message handlers are no routes.
    if (!['graphql', 'consumers'].includes(recipe)) expect(declared.length).toBeGreaterThan(0);
    expect(declared.filter((route) => !called.some((path) => route.matches(path))).map(String)).toEqual([]);
  });

  it('are all of them', () => {
    const there = readdirSync(join(__dirname, '../../docs/recipes')).map((file) => file.replace('.md', ''));
    expect(there.toSorted()).toEqual(RECIPES.toSorted());
  });
});
