import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import { waitFor } from '../support/wait-for.js';
import { many, post, read, send, tally, twoHundred, type Answer, useShops, type Shop } from './shop.js';

/** Two processes of the built shop on one Redis; their wire is all that is looked at. */
describe('the shop under load', () => {
  const running = useShops();
  let shop: Shop;
  let shops: readonly Shop[];

  beforeAll(() => {
    ({ shop, shops } = running);
  });

  const tea = { sku: 'tea', quantity: 2 };
  const countOrders = async (): Promise<number> => (await read<{ count: number }>(shop, '/orders')).count;

  it('[SHOP-1] makes one order of 200 parallel requests with one key, and all answers are that order or "in progress"', async () => {
    const before = await countOrders();
    const headers = { 'Idempotency-Key': randomUUID() };
    const answers = await twoHundred(shops, (one) => post(one, '/orders', tea, headers));

    const created = answers.filter(({ status }) => status === 201);
    expect(created.length).toBeGreaterThan(0);
    expect(tally(answers.filter((answer) => !created.includes(answer)))).toEqual(
      created.length === 200 ? {} : { '409 IDEMPOTENCY_IN_FLIGHT': 200 - created.length },
    );
    expect(created.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(new Set(created.map(({ body }) => body)).size).toBe(1);
    expect(await countOrders()).toBe(before + 1);

    for (const one of shops) {
      expect(await post(one, '/orders', tea, headers)).toEqual({ ...created[0], replayed: true });
    }
    expect(await countOrders()).toBe(before + 1);
    const order = JSON.parse(created[0]!.body) as { id: number };
    expect(await read(shop, `/orders/${order.id}`)).toEqual(order);
  });

  it('[SHOP-1] makes 200 orders of 200 keys', async () => {
    const before = await countOrders();
    const answers = await twoHundred(shops, (one) =>
      post(one, '/orders', tea, { 'Idempotency-Key': randomUUID() }),
    );
    expect(tally(answers)).toEqual({ 201: 200 });
    expect(new Set(answers.map(({ body }) => (JSON.parse(body) as { id: number }).id)).size).toBe(200);
    expect(await countOrders()).toBe(before + 200);
  });

  it('[SHOP-2] pays out 100 of 200 parallel withdrawals of 1 from 100', async () => {
    await send('PUT', shop, '/accounts/carol', { balance: 100 });
    const answers = await twoHundred(shops, (one) => post(one, '/accounts/carol/withdrawals', { amount: 1 }));
    expect(tally(answers)).toEqual({ 201: 100, '409 INSUFFICIENT_FUNDS': 100 });
    expect(await read(shop, '/accounts/carol')).toEqual({ id: 'carol', balance: 0 });
    // Each saw a balance of its own: no two withdrawals began from the same.
    const left = answers
      .filter(({ status }) => status === 201)
      .map(({ body }) => (JSON.parse(body) as { balance: number }).balance);
    expect(left.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  it('[SHOP-2] loses no cent over five accounts and amounts of 1 to 7', async () => {
    const accounts = ['dora', 'emil', 'fritz', 'greta', 'hanna'];
    for (const id of accounts) await send('PUT', shop, `/accounts/${id}`, { balance: 100 });
    const accountOf = (i: number): string => accounts[i % 5]!;
    const amountOf = (i: number): number => 1 + (i % 7);
    const answers = await twoHundred(shops, (one, i) =>
      post(one, `/accounts/${accountOf(i)}/withdrawals`, { amount: amountOf(i) }),
    );
    expect(Object.keys(tally(answers)).toSorted()).toEqual(['201', '409 INSUFFICIENT_FUNDS']);
    for (const id of accounts) {
      const paid = answers.reduce(
        (sum, { status }, i) => (status === 201 && accountOf(i) === id ? sum + amountOf(i) : sum),
        0,
      );
      const { balance } = await read<{ balance: number }>(shop, `/accounts/${id}`);
      expect([id, balance + paid]).toEqual([id, 100]);
      // More was asked for than there was, so somebody was refused, who asked for 7 at most.
      expect(balance).toBeLessThan(7);
    }
  });

  it('[SHOP-3] accepts 50 of 200 parallel reservations of 1 from a stock of 50', async () => {
    await send('PUT', shop, '/inventory/pu-erh', { stock: 50 });
    const answers = await twoHundred(shops, (one) =>
      post(one, '/inventory/pu-erh/reservations', { quantity: 1 }),
    );
    expect(tally(answers)).toEqual({ 201: 50, '409 COUNTER_LIMIT': 150 });
    expect(await read(shop, '/inventory/pu-erh')).toEqual({ sku: 'pu-erh', stock: 0, reservations: 50 });
  });

  describe('checkout', () => {
    const pay = (one: Shop, cart: string, key: string = randomUUID(), card = 'tok_visa') =>
      post(one, '/checkout', { cart, sku: 'sencha', quantity: 2, card }, { 'Idempotency-Key': key });
    const stockLeft = async (): Promise<number> =>
      (await read<{ stock: number }>(shop, '/inventory/sencha')).stock;
    const sales = async (): Promise<unknown> => {
      const answer = await post(shop, '/sales/sencha/statements');
      return JSON.parse(answer.body);
    };

    it('[SHOP-15] charges once, takes stock once and sends one mail for 200 parallel requests with one key', async () => {
      await send('PUT', shop, '/inventory/sencha', { stock: 10 });
      const before = await read<{ sent: number }>(shop, '/mails');
      const key = randomUUID();
      const answers = await twoHundred(shops, (one) => pay(one, 'cart-1', key));
      for (const kind of Object.keys(tally(answers)))
        expect(['201', '409 IDEMPOTENCY_IN_FLIGHT']).toContain(kind);
      // The one that ran may have taken too long, and be sent again while the others are refused.
      const again = await waitFor('the payment', async () => {
        const answer = await pay(shop, 'cart-1', key);
        return answer.status === 201 && answer;
      });
      const paid = [...answers, again].filter(({ status }) => status === 201);
      expect(new Set(paid.map(({ body }) => body)).size).toBe(1);
      const { charge } = JSON.parse(paid[0]!.body) as { charge: string };
      expect(await read(shop, '/checkout/sencha/cart-1')).toEqual({
        cart: 'cart-1',
        quantity: 2,
        state: 'paid',
        charge,
      });
      expect(await stockLeft()).toBe(8);
      expect(await sales()).toEqual({ charges: 1, cents: 998 });
      const { sent } = await waitFor('the mail', async () => {
        const counts = await read<{ sent: number; pending: number; processing: number }>(shop, '/mails');
        return counts.pending + counts.processing === 0 && counts;
      });
      expect(sent - before.sent).toBe(1);
    });

    it('[SHOP-15] gives the stock back when the card is declined, and lets the cart be paid for by another', async () => {
      await send('PUT', shop, '/inventory/sencha', { stock: 10 });
      const declined = await pay(shop, 'cart-2', randomUUID(), 'tok_declined');
      expect([declined.status, JSON.parse(declined.body)]).toEqual([
        201,
        { cart: 'cart-2', state: 'declined', charge: null },
      ]);
      expect(await stockLeft()).toBe(10);
      expect(await send('GET', shop, '/checkout/sencha/cart-2')).toMatchObject({ status: 404 });
      expect(await pay(shop, 'cart-2')).toMatchObject({ status: 201 });
      // Another key for the same cart is another request.
      expect(await pay(shop, 'cart-2')).toMatchObject({
        status: 409,
        problem: { detail: expect.stringMatching(/checkout/) },
      });
      expect(await stockLeft()).toBe(8);
    });

    it('[SHOP-15] refuses more than there is, before the card is charged', async () => {
      await send('PUT', shop, '/inventory/sencha', { stock: 1 });
      const before = await sales();
      expect(await pay(shop, 'cart-3')).toMatchObject({
        status: 409,
        problem: { detail: expect.stringMatching(/too little/) },
      });
      expect([await stockLeft(), await sales()]).toEqual([1, before]);
    });
  });

  it('[SHOP-16] lets a client try five vouchers in a minute, over both processes', async () => {
    const redeem = (one: Shop, code: string) => post(one, '/vouchers/redemptions', { code });
    await send('PUT', shop, '/vouchers/spring', { cents: 500 });
    expect(await redeem(shops[0]!, 'spring')).toMatchObject({
      status: 200,
      body: expect.stringContaining('"cents":500'),
    });
    expect(await redeem(shops[1]!, 'spring')).toMatchObject({ status: 404 });
    const guesses = await many(10, shops, (one, i) => redeem(one, `guess-${i}`));
    expect(tally(guesses)).toEqual({ 404: 3, '429 LIMIT_EXCEEDED': 7 });
    const refused = guesses.find(({ status }) => status === 429)!;
    expect(Number(refused.retryAfter)).toBeGreaterThan(0);
  });

  it('[SHOP-17] publishes statements one at a time, over both processes', async () => {
    const answers = await many(10, shops, (one) => post(one, '/sales/matcha/statements'));
    for (const kind of Object.keys(tally(answers))) expect(['201', '409 PERMIT_UNAVAILABLE']).toContain(kind);
    const { statements } = await read<{ statements: unknown[] }>(shop, '/sales/matcha/statements');
    expect(statements).toHaveLength(tally(answers)['201']!);
    expect(statements[0]).toEqual({ charges: 0, cents: 0 });
  });

  describe('bad requests', () => {
    const order = (body: unknown, headers: Record<string, string> = { 'Idempotency-Key': randomUUID() }) =>
      post(shop, '/orders', body, headers);

    const problem = (status: number, detail: RegExp, code?: string) => ({
      status,
      problem: {
        status,
        title: STATUS_CODES[status],
        detail: expect.stringMatching(detail),
        ...(code && { code }),
      },
    });

    it.each([
      ['no body', undefined, /sku/],
      ['no sku', { quantity: 1 }, /sku/],
      ['a sku with braces', { sku: '{tea}', quantity: 1 }, /sku/],
      ['a quantity of 0', { sku: 'tea', quantity: 0 }, /quantity must not be less than 1/],
      ['a fraction', { sku: 'tea', quantity: 1.5 }, /quantity must be an integer/],
      ['a quantity in a string', { sku: 'tea', quantity: '1' }, /quantity must be an integer/],
      ['a field that nobody knows', { ...tea, price: 0 }, /price should not exist/],
      ['what is not JSON', '{"sku":', /JSON/],
      ['a JSON array', [tea], /./],
    ])('[SHOP-5] refuses an order with %s', async (_, body, detail) => {
      const before = await countOrders();
      expect(await order(body)).toMatchObject(problem(400, detail));
      expect(await countOrders()).toBe(before);
    });

    it('[SHOP-5] leaves the key of a refused order free for a right one', async () => {
      const headers = { 'Idempotency-Key': randomUUID() };
      expect(await order({ sku: 'tea' }, headers)).toMatchObject(problem(400, /quantity/));
      expect(await order(tea, headers)).toMatchObject({ status: 201, replayed: false });
    });

    it.each([
      ['no key', {}, 'IDEMPOTENCY_KEY_MISSING'],
      ['an empty key', { 'Idempotency-Key': '' }, 'IDEMPOTENCY_KEY_INVALID'],
      ['two words for a key', { 'Idempotency-Key': 'two words' }, 'IDEMPOTENCY_KEY_INVALID'],
      ['a key of 256 characters', { 'Idempotency-Key': 'k'.repeat(256) }, 'IDEMPOTENCY_KEY_INVALID'],
    ])('[SHOP-5] refuses an order with %s', async (_, headers: Record<string, string>, code) => {
      const before = await countOrders();
      expect(await order(tea, headers)).toMatchObject(problem(400, /key/i, code));
      expect(await countOrders()).toBe(before);
    });

    it('[SHOP-5] refuses another order under the same key', async () => {
      const headers = { 'Idempotency-Key': randomUUID() };
      const first = await order(tea, headers);
      const before = await countOrders();
      for (const other of [
        { ...tea, quantity: 3 },
        { ...tea, sku: 'coffee' },
      ]) {
        expect(await order(other, headers)).toMatchObject(
          problem(422, /another payload/, 'IDEMPOTENCY_MISMATCH'),
        );
      }
      expect(await countOrders()).toBe(before);
      // Neither the order of its properties nor white space makes it another.
      expect(await order('{ "quantity": 2, "sku": "tea" }', headers)).toEqual({ ...first, replayed: true });
    });

    it.each([0, -1, 0.5, '1', null, 1e10])('[SHOP-5] refuses a withdrawal of %p', async (amount) => {
      await send('PUT', shop, '/accounts/ida', { balance: 10 });
      expect(await post(shop, '/accounts/ida/withdrawals', { amount })).toMatchObject(problem(400, /amount/));
      expect(await read(shop, '/accounts/ida')).toEqual({ id: 'ida', balance: 10 });
    });

    it('[SHOP-5] refuses to withdraw more than there is, or from nowhere, and writes nothing', async () => {
      await send('PUT', shop, '/accounts/ida', { balance: 10 });
      const tooMuch = await post(shop, '/accounts/ida/withdrawals', { amount: 11 });
      expect(tooMuch).toMatchObject(problem(409, /balance is 10/, 'INSUFFICIENT_FUNDS'));
      expect(await read(shop, '/accounts/ida')).toEqual({ id: 'ida', balance: 10 });
      expect(await post(shop, '/accounts/nobody/withdrawals', { amount: 1 })).toMatchObject(
        problem(404, /no account nobody/),
      );
      expect(await send('GET', shop, '/accounts/nobody')).toMatchObject(problem(404, /no account nobody/));
    });

    it.each([0, -1, 0.5, '1', null, 1_001])('[SHOP-5] refuses a reservation of %p', async (quantity) => {
      await send('PUT', shop, '/inventory/mate', { stock: 10 });
      expect(await post(shop, '/inventory/mate/reservations', { quantity })).toMatchObject(
        problem(400, /quantity/),
      );
      expect(await read(shop, '/inventory/mate')).toEqual({ sku: 'mate', stock: 10, reservations: 0 });
    });

    it('[SHOP-5] refuses to reserve more than there is, or what there never was, and takes nothing', async () => {
      await send('PUT', shop, '/inventory/mate', { stock: 10 });
      const tooMany = await post(shop, '/inventory/mate/reservations', { quantity: 11 });
      expect(tooMany).toMatchObject(problem(409, /limit has been reached/, 'COUNTER_LIMIT'));
      expect(await read(shop, '/inventory/mate')).toEqual({ sku: 'mate', stock: 10, reservations: 0 });
      expect(await post(shop, '/inventory/unheard-of/reservations', { quantity: 1 })).toMatchObject(
        problem(409, /limit has been reached/),
      );
    });

    it.each([
      ['PUT', '/accounts/ida', { balance: -1 }, 400],
      ['PUT', '/inventory/mate', { stock: 1.5 }, 400],
      ['PUT', '/accounts/%7Bida%7D', { balance: 1 }, 400],
      ['POST', '/inventory/%7Bmate/reservations', { quantity: 1 }, 400],
      ['POST', '/naive/orders', tea, 400],
      ['GET', '/orders/first', undefined, 400],
      ['GET', '/orders/999999', undefined, 404],
      ['GET', '/nowhere', undefined, 404],
    ])('[SHOP-5] answers %s %s %j by %i with problem details', async (method, path, body, status) => {
      expect(await send(method, shop, path, body)).toMatchObject(problem(status, /./));
    });
  });

  it('[SHOP-5] answers 503 while Redis does, not run anything unprotected, and goes on afterwards', async () => {
    const before = await countOrders();
    const headers = { 'Idempotency-Key': randomUUID() };
    running.redis.pause();
    let stuck: Answer;
    try {
      stuck = await post(shop, '/orders', tea, headers);
    } finally {
      running.redis.resume();
    }
    expect(stuck).toMatchObject({ status: 503, problem: { status: 503 } });
    expect(Number(stuck.retryAfter)).toBeGreaterThan(0);
    expect(await countOrders()).toBe(before);
    expect(await post(shop, '/orders', tea, headers)).toMatchObject({ status: 201 });
    expect(await countOrders()).toBe(before + 1);
  });
});
