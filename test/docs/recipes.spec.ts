import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { IdempotencyService, ReliableQueueService } from 'nestjs-atomic-redis';
import { FakeKafka } from '../support/fake-kafka.js';
import {
  startFakePaymentProvider,
  type FakePaymentProvider,
  type HeldAt,
} from '../support/fake-payment-provider.js';
import { FakeRabbit } from '../support/fake-rabbit.js';
import { waitFor } from '../support/wait-for.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';
import type { ExampleData } from './example.worker.js';
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
  'payment-steps',
  'agents',
  'saga',
];

describe('[DOC-1] docs/recipes/payments.md', () => {
  const example = useExample('docs/recipes/payments.md');
  const pay = (key: string, body: object) =>
    example.send('POST', '/payments', body, { 'idempotency-key': key });

  it('charges a card once, even if the provider’s reply was lost', async () => {
    const order = { orderId: '7', card: 'slow', cents: 100 };
    expect((await pay('a', order)).status).toBe(500);
    const retry = await pay('a', order);
    expect(retry).toMatchObject({ status: 201, body: { charge: 'ch-order-7' } });
    expect((await pay('a', order)).headers.get('idempotency-replayed')).toBe('true');
    const { charges } = example.instanceOf<{ charges: Map<string, number> }>('CardProvider');
    expect([...charges]).toEqual([['order-7', 100]]);
  });

  it('replays a declined card', async () => {
    const order = { orderId: '8', card: 'declined', cents: 100 };
    expect((await pay('b', order)).status).toBe(402);
    const retry = await pay('b', order);
    expect(retry.status).toBe(402);
    expect(retry.headers.get('idempotency-replayed')).toBe('true');
  });

  it('does not repeat a payout with an unknown outcome until a person has checked it', async () => {
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

  it('sells and holds no more than the stock', async () => {
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

  it('answers every delivery of a handled event with 200, however the deliveries differ', async () => {
    await send('POST', '/orders', { orderId: 'o1' });
    const deliveries = await Promise.all(
      [1, 2, 3].map((attempts) => deliver({ id: 'e1', orderId: 'o1', attempts })),
    );
    for (const delivery of deliveries) expect(delivery).toMatchObject(received);
    expect(await deliver({ id: 'e1', orderId: 'o1', attempts: 4 })).toMatchObject(received);
    expect(await paid()).toEqual(['o1']);
    expect((await deliver({ id: 'e1', orderId: 'another' })).status).toBe(422);
  });

  it('handles an event that came before its order when it is delivered again', async () => {
    expect((await deliver({ id: 'e2', orderId: 'o2' })).status).toBe(404);
    await send('POST', '/orders', { orderId: 'o2' });
    for (let i = 0; i < 2; i++) expect(await deliver({ id: 'e2', orderId: 'o2' })).toMatchObject(received);
    expect(await paid()).toEqual(['o1', 'o2']);
  });

  it('takes numeric ids, and refuses invalid ones', async () => {
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

  it('handles a message once per consumer, and leaves no copy behind', async () => {
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

  it('sends a mail once even if it was queued twice', async () => {
    for (const messageId of ['m1', 'm1', 'm2']) {
      await send('POST', '/emails', { messageId, to: `${messageId}@example.org` });
    }
    const { sent } = await waitFor('all jobs', async () => {
      const now = await state();
      return now.completed === 3 && now;
    });
    expect(sent.toSorted()).toEqual(['m1@example.org', 'm2@example.org']);
  });

  it('counts no attempt of a job that arrives while another one sends the same mail', async () => {
    const before = await state();
    const email = { messageId: 'm3', to: 'm3@example.org' };
    let end = (): void => undefined;
    const running = example.app
      .get(IdempotencyService)
      .run(email.messageId, () => new Promise<void>((resolve) => (end = resolve)), {
        operation: 'emails.send',
        leaseMs: 3_000,
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

  it('completes every order once, however often it is started', async () => {
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

  it('tells the broker about every placed order, and about no other', async () => {
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
    await waitFor('the end', async () => {
      expect(await queue.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
      return true;
    });
    expect(await stateOf('99')).toBe('unknown');
  });
});

describe('[DOC-1] docs/recipes/payment-steps.md', () => {
  let provider: FakePaymentProvider;
  let killed: WorkerProcess | undefined;
  // Before the example's own, whose class reads the URL when it is made.
  beforeAll(async () => {
    provider = await startFakePaymentProvider();
    process.env.PROVIDER_URL = provider.url;
  });
  afterEach(() => killed?.kill());
  afterAll(async () => {
    delete process.env.PROVIDER_URL;
    await provider.stop();
  });
  const example = useExample('docs/recipes/payment-steps.md');
  const pay = (orderId: string, key: string, card = 'visa') =>
    example.send(
      'POST',
      `/orders/${orderId}/payment`,
      { sku: 'tea', card, cents: 100 },
      { 'idempotency-key': key },
    );
  const mailsTo = (orderId: string): number =>
    example.instanceOf<{ sent: string[] }>('Mailer').sent.filter((id) => id === orderId).length;
  const isMailed = async (orderId: string): Promise<number> => {
    await waitFor('the mail', () => mailsTo(orderId) > 0);
    const queue = example.app.get(ReliableQueueService).get('mails');
    await waitFor('the end of the job', async () => {
      expect(await queue.counts()).toEqual({ pending: 0, delayed: 0, processing: 0, dead: 0 });
      return true;
    });
    return mailsTo(orderId);
  };

  it.each<[HeldAt, number]>([
    ['before the charge', 0],
    ['after the charge', 1],
  ])(
    'a process that is killed %s leaves one charge, one reservation and one mail to its successor',
    async (at, charged) => {
      const { client } = example.redis;
      const orderId = at.split(' ', 1)[0]!;
      const before = { charges: provider.charges.length, requests: provider.requests };
      await client.set('stock:tea', 3);
      const data: ExampleData = {
        file: example.file,
        env: { REDIS_URL: example.redis.server.url, PROVIDER_URL: provider.url },
      };
      killed = startWorker({ script: require.resolve('./example.worker.ts'), data });
      const url = await killed.next<string>();
      const isHeld = provider.holdNext(at);
      const lost = fetch(`${url}/orders/${orderId}/payment`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': at.replaceAll(' ', '-') },
        body: JSON.stringify({ sku: 'tea', card: 'visa', cents: 100 }),
      }).then(
        ({ status }) => `answered ${status}`,
        () => 'broke off',
      );
      await isHeld;
      await killed.kill();
      expect(await lost).toBe('broke off');
      expect(provider.charges).toHaveLength(before.charges + charged);
      expect(await client.hgetall(`order:${orderId}`)).toEqual({ sku: 'tea', state: 'reserved' });

      const retry = () => pay(orderId, at.replaceAll(' ', '-'));
      expect(await retry()).toMatchObject({ status: 409, body: { code: 'IDEMPOTENCY_IN_FLIGHT' } });
      const answer = await waitFor('the end of the lease', async () => {
        const one = await retry();
        return one.status !== 409 && one;
      });
      expect(answer).toMatchObject({ status: 201, body: { orderId, state: 'paid' } });
      const again = await retry();
      expect(again).toMatchObject({ status: 201, body: answer.body });
      expect(again.headers.get('idempotency-replayed')).toBe('true');
      // Asked by both processes, and charged once.
      expect(provider.requests).toBe(before.requests + 2);
      expect(provider.charges).toHaveLength(before.charges + 1);
      expect(await client.get('stock:tea')).toBe('2');
      expect(await client.hget(`order:${orderId}`, 'state')).toBe('paid');
      expect(await isMailed(orderId)).toBe(1);
    },
  );

  it('returns the stock when the card is declined, and accepts another card', async () => {
    const { client } = example.redis;
    await client.set('stock:tea', 1);
    const declined = { status: 201, body: { orderId: 'd', state: 'declined' } };
    expect(await pay('d', 'first-card', 'declined')).toMatchObject(declined);
    expect(await client.get('stock:tea')).toBe('1');
    expect(await pay('d', 'first-card', 'declined')).toMatchObject(declined);
    expect(await pay('d', 'second-card')).toMatchObject({ status: 201, body: { state: 'paid' } });
    expect(await pay('d', 'third-card')).toMatchObject({ status: 409 });
    expect(await pay('late', 'late')).toMatchObject({ status: 409, body: { message: 'sold out' } });
    expect(await client.get('stock:tea')).toBe('0');
    expect(await isMailed('d')).toBe(1);
  });
});

describe('[DOC-1] docs/recipes/agents.md', () => {
  const example = useExample('docs/recipes/agents.md');
  const transfers = () => example.instanceOf<{ transfers: string[] }>('Bank').transfers;
  interface ToolResult {
    content: { text: string }[];
    structuredContent?: object;
    isError?: true;
  }
  let requests = 0;
  const request = async (method: string, params?: object, user = 'ada'): Promise<unknown> => {
    const id = ++requests;
    const { status, body } = await example.send(
      'POST',
      '/mcp',
      { jsonrpc: '2.0', id, method, params },
      { 'x-user': user },
    );
    expect(status).toBe(200);
    expect(body).toMatchObject({ jsonrpc: '2.0', id });
    return (body as { result: unknown }).result;
  };
  const refund = async (
    args: { actionId?: string; to: string; cents: number },
    { user, ...more }: { user?: string; _meta?: object } = {},
  ): Promise<ToolResult> =>
    (await request('tools/call', { name: 'refund', arguments: args, ...more }, user)) as ToolResult;
  const failed = (text: RegExp) => ({
    isError: true,
    content: [{ text: expect.stringMatching(text) as string }],
  });

  it('refunds once for each action of a user, however often the tool is called', async () => {
    expect(await request('tools/list')).toMatchObject({ tools: [{ name: 'refund' }] });
    const action = { actionId: 'a1', to: 'bob', cents: 100 };
    const results = await Promise.all([1, 2, 3].map(() => refund(action)));
    for (const result of [...results, await refund(action)])
      expect(result).toMatchObject({ structuredContent: { transfer: 1 } });
    expect(await refund(action, { user: 'grace' })).toMatchObject({ structuredContent: { transfer: 2 } });
    expect(await refund({ ...action, cents: 200 })).toMatchObject(failed(/another payload/));
    const unnamed = { to: 'bob', cents: 300 };
    expect(await refund(unnamed)).toMatchObject(failed(/actionId/));
    const ofHost = { _meta: { 'com.example/idempotency-key': 'of the host' } };
    for (let i = 0; i < 2; i++)
      expect(await refund(unnamed, ofHost)).toMatchObject({ structuredContent: { transfer: 3 } });
    expect(transfers()).toEqual(['100 to bob', '100 to bob', '300 to bob']);
  });

  it('does not act again while the outcome is unknown, until a person has checked it', async () => {
    const before = transfers().length;
    const action = { actionId: 'a2', to: 'slow', cents: 100 };
    for (let i = 0; i < 3; i++) expect(await refund(action)).toMatchObject(failed(/may have been sent/));
    expect(transfers()).toHaveLength(before + 1);
    const settled = await example.send('POST', '/mcp/refunds/ada/a2/settle', { transfer: 7 });
    expect(settled.body).toEqual({ settled: true });
    expect(await refund(action)).toMatchObject({ structuredContent: { transfer: 7 } });
    expect(transfers()).toHaveLength(before + 1);
  });

  it('repeats the refusal of the bank', async () => {
    const before = transfers().length;
    const action = { actionId: 'a3', to: 'closed', cents: 100 };
    for (let i = 0; i < 2; i++)
      expect(await refund(action)).toMatchObject(failed(/closed. Nothing was sent/));
    expect(transfers()).toHaveLength(before);
  });
});

describe('[DOC-1] docs/recipes/saga.md', () => {
  const example = useExample('docs/recipes/saga.md');
  interface Companies {
    booked: Map<string, string>;
    log: string[];
    cancel(part: string, trip: object, reference: string): Promise<void>;
  }
  const companies = () => example.instanceOf<Companies>('Companies');
  /**
   * Begins a trip, waits for its end, and tells it with what is booked and what the companies were
   * asked.
   */
  const travel = async (trip: { tripId: string; full?: string; slow?: string; dead?: string }) => {
    const { tripId } = trip;
    await example.send('POST', '/trips', trip);
    const state = await waitFor(`the end of trip ${tripId}`, async () => {
      const { body } = await example.send('GET', `/trips/${tripId}`);
      const now = (body as { state: string }).state;
      return now !== 'under way' && now;
    });
    const ofTrip = (lines: Iterable<string>): string[] =>
      [...lines].flatMap((line) => (line.startsWith(`${tripId}: `) ? [line.slice(tripId.length + 2)] : []));
    return { state, booked: ofTrip(companies().booked.values()), log: ofTrip(companies().log) };
  };

  it('books every part once, even when a company did not answer', async () => {
    const booked = ['flight', 'hotel', 'car'];
    const log = ['book flight', 'book hotel', 'book car'];
    expect(await travel({ tripId: '1' })).toEqual({ state: 'booked', booked, log });
    await example.send('POST', '/trips', { tripId: '1' });
    const queue = example.app.get(ReliableQueueService).get('trips');
    await waitFor('the copy', async () => {
      const { pending, processing } = await queue.counts();
      return pending + processing === 0;
    });
    expect(await travel({ tripId: '2', slow: 'hotel' })).toEqual({
      state: 'booked',
      booked,
      log: ['book flight', 'book hotel', 'book hotel', 'book car'],
    });
    expect(companies().log.filter((line) => line.startsWith('1: '))).toHaveLength(3);
  });

  it('cancels the earlier bookings in reverse order when a company is full', async () => {
    expect(await travel({ tripId: '3', full: 'car' })).toEqual({
      state: 'cancelled',
      booked: [],
      log: ['book flight', 'book hotel', 'book car', 'cancel car', 'cancel hotel', 'cancel flight'],
    });
  });

  it('also cancels a booking that was never answered, and retries a failed cancellation', async () => {
    const failing = jest.spyOn(companies(), 'cancel').mockRejectedValueOnce(new Error('time-out'));
    const attempts = Array.from({ length: 4 }, () => 'book hotel');
    expect(await travel({ tripId: '4', dead: 'hotel' })).toEqual({
      state: 'cancelled',
      booked: [],
      log: ['book flight', ...attempts, 'cancel hotel', 'cancel flight'],
    });
    expect(failing).toHaveBeenCalledTimes(3);
    failing.mockRestore();
    expect(await travel({ tripId: '5', dead: 'flight' })).toEqual({
      state: 'cancelled',
      booked: [],
      log: [...Array.from({ length: 4 }, () => 'book flight'), 'cancel flight'],
    });
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

  it('are all tested', () => {
    const there = readdirSync(join(__dirname, '../../docs/recipes')).map((file) => file.replace('.md', ''));
    expect(there.toSorted()).toEqual(RECIPES.toSorted());
  });
});
