import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { OpenAPIObject } from '@nestjs/swagger';
import { faultsOf, operationsOf } from '../openapi/document.js';
import { waitFor } from '../support/wait-for.js';
import { type Answer, many, post, read, send, type Shop, tally, twoHundred, useShops } from './shop.js';

/** Two processes of the built shop on one Redis; their wire is all that is looked at. */
const running = useShops();

interface MailCounts {
  pending: number;
  processing: number;
  sent: number;
}

describe('the shop under load', () => {
  const tea = { sku: 'tea', quantity: 2 };
  const countOrders = async (): Promise<number> =>
    (await read<{ count: number }>(running.shop, '/orders')).count;

  it('[SHOP-1] makes one order of 200 parallel requests with one key, and every response is that order or "in progress"', async () => {
    const before = await countOrders();
    const headers = { 'Idempotency-Key': randomUUID() };
    const answers = await twoHundred(running.shops, (one) => post(one, '/orders', tea, headers));

    const created = answers.filter(({ status }) => status === 201);
    expect(created.length).toBeGreaterThan(0);
    expect(tally(answers.filter((answer) => !created.includes(answer)))).toEqual(
      created.length === 200 ? {} : { '409 IDEMPOTENCY_IN_FLIGHT': 200 - created.length },
    );
    expect(created.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(new Set(created.map(({ body }) => body)).size).toBe(1);
    expect(await countOrders()).toBe(before + 1);

    for (const one of running.shops) {
      expect(await post(one, '/orders', tea, headers)).toEqual({ ...created[0], replayed: true });
    }
    expect(await countOrders()).toBe(before + 1);
    const order = JSON.parse(created[0]!.body) as { id: number };
    expect(await read(running.shop, `/orders/${order.id}`)).toEqual(order);
  });

  it('[SHOP-1] makes 200 orders of 200 keys', async () => {
    const before = await countOrders();
    const keys = randomUUID();
    const answers = await twoHundred(running.shops, (one, i) =>
      post(one, '/orders', tea, { 'Idempotency-Key': `${keys}-${i}` }),
    );
    expect(tally(answers)).toEqual({ 201: 200 });
    expect(new Set(answers.map(({ body }) => (JSON.parse(body) as { id: number }).id)).size).toBe(200);
    expect(await countOrders()).toBe(before + 200);
  });

  it('[SHOP-2] pays out 100 of 200 parallel withdrawals of 1 from 100', async () => {
    await send('PUT', running.shop, '/accounts/carol', { balance: 100 });
    const answers = await twoHundred(running.shops, (one) =>
      post(one, '/accounts/carol/withdrawals', { amount: 1 }),
    );
    expect(tally(answers)).toEqual({ 201: 100, '409 INSUFFICIENT_FUNDS': 100 });
    expect(await read(running.shop, '/accounts/carol')).toEqual({ id: 'carol', balance: 0 });
    // Each saw a balance of its own: no two withdrawals began from the same.
    const left = answers
      .filter(({ status }) => status === 201)
      .map(({ body }) => (JSON.parse(body) as { balance: number }).balance);
    expect(left.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  it('[SHOP-2] loses no cent over five accounts and amounts of 1 to 7', async () => {
    const accounts = ['dora', 'emil', 'fritz', 'greta', 'hanna'];
    for (const id of accounts) await send('PUT', running.shop, `/accounts/${id}`, { balance: 100 });
    const accountOf = (i: number): string => accounts[i % 5]!;
    const amountOf = (i: number): number => 1 + (i % 7);
    const answers = await twoHundred(running.shops, (one, i) =>
      post(one, `/accounts/${accountOf(i)}/withdrawals`, { amount: amountOf(i) }),
    );
    expect(Object.keys(tally(answers)).toSorted()).toEqual(['201', '409 INSUFFICIENT_FUNDS']);
    for (const id of accounts) {
      const paid = answers.reduce(
        (sum, { status }, i) => (status === 201 && accountOf(i) === id ? sum + amountOf(i) : sum),
        0,
      );
      const { balance } = await read<{ balance: number }>(running.shop, `/accounts/${id}`);
      expect([id, balance + paid]).toEqual([id, 100]);
      // More was requested than existed, so some request was refused, for 7 at most.
      expect(balance).toBeLessThan(7);
    }
  });

  it('[SHOP-3] accepts 50 of 200 parallel reservations of 1 from a stock of 50', async () => {
    await send('PUT', running.shop, '/inventory/pu-erh', { stock: 50 });
    const answers = await twoHundred(running.shops, (one) =>
      post(one, '/inventory/pu-erh/reservations', { quantity: 1 }),
    );
    expect(tally(answers)).toEqual({ 201: 50, '409 COUNTER_LIMIT': 150 });
    expect(await read(running.shop, '/inventory/pu-erh')).toEqual({
      sku: 'pu-erh',
      stock: 0,
      reservations: 50,
    });
  });

  describe('checkout', () => {
    const pay = (one: Shop, cart: string, key: string = randomUUID(), card = 'tok_visa') =>
      post(one, '/checkout', { cart, sku: 'sencha', quantity: 2, card }, { 'Idempotency-Key': key });
    const stockLeft = async (): Promise<number> =>
      (await read<{ stock: number }>(running.shop, '/inventory/sencha')).stock;
    /** Number of mails, once none is left to be sent. */
    const allSent = (): Promise<number> =>
      waitFor('the mails', async () => {
        const { sent, pending, processing } = await read<MailCounts>(running.shop, '/mails');
        return pending + processing === 0 && sent;
      });
    const sales = async (): Promise<unknown> => {
      const answer = await post(running.shop, '/sales/sencha/statements');
      return JSON.parse(answer.body);
    };

    it('[SHOP-15] charges once, takes stock once and sends one mail for 200 parallel requests with one key', async () => {
      await send('PUT', running.shop, '/inventory/sencha', { stock: 10 });
      const before = await allSent();
      const key = randomUUID();
      const answers = await twoHundred(running.shops, (one) => pay(one, 'cart-1', key));
      for (const kind of Object.keys(tally(answers)))
        expect(['201', '409 IDEMPOTENCY_IN_FLIGHT']).toContain(kind);
      // The one that ran may have taken too long, and be sent again while the others are refused.
      const again = await waitFor('the payment', async () => {
        const answer = await pay(running.shop, 'cart-1', key);
        return answer.status === 201 && answer;
      });
      const paid = [...answers, again].filter(({ status }) => status === 201);
      expect(new Set(paid.map(({ body }) => body)).size).toBe(1);
      const { charge } = JSON.parse(paid[0]!.body) as { charge: string };
      expect(await read(running.shop, '/checkout/sencha/cart-1')).toEqual({
        cart: 'cart-1',
        quantity: 2,
        state: 'paid',
        charge,
      });
      expect(await stockLeft()).toBe(8);
      expect(await sales()).toEqual({ charges: 1, cents: 998 });
      expect((await allSent()) - before).toBe(1);
    });

    it('[SHOP-15] returns the stock when the card is declined, and accepts another card for the cart', async () => {
      await send('PUT', running.shop, '/inventory/sencha', { stock: 10 });
      const declined = await pay(running.shop, 'cart-2', randomUUID(), 'tok_declined');
      expect([declined.status, JSON.parse(declined.body)]).toEqual([
        201,
        { cart: 'cart-2', state: 'declined', charge: null },
      ]);
      expect(await stockLeft()).toBe(10);
      expect(await send('GET', running.shop, '/checkout/sencha/cart-2')).toMatchObject({ status: 404 });
      expect(await pay(running.shop, 'cart-2')).toMatchObject({ status: 201 });
      // Another key for the same cart is another request.
      expect(await pay(running.shop, 'cart-2')).toMatchObject({
        status: 409,
        problem: { detail: expect.stringMatching(/checkout/) },
      });
      expect(await stockLeft()).toBe(8);
    });

    it('[SHOP-15] refuses more than the stock before it charges the card', async () => {
      await send('PUT', running.shop, '/inventory/sencha', { stock: 1 });
      const before = await sales();
      expect(await pay(running.shop, 'cart-3')).toMatchObject({
        status: 409,
        problem: { detail: expect.stringMatching(/too little/) },
      });
      expect([await stockLeft(), await sales()]).toEqual([1, before]);
    });
  });

  it('[SHOP-16] limits a client to five voucher attempts per minute, over both processes', async () => {
    const redeem = (one: Shop, code: string) => post(one, '/vouchers/redemptions', { code });
    await send('PUT', running.shop, '/vouchers/spring', { cents: 500 });
    expect(await redeem(running.shops[0]!, 'spring')).toMatchObject({
      status: 200,
      body: expect.stringContaining('"cents":500'),
    });
    expect(await redeem(running.shops[1]!, 'spring')).toMatchObject({ status: 404 });
    const guesses = await many(10, running.shops, (one, i) => redeem(one, `guess-${i}`));
    expect(tally(guesses)).toEqual({ 404: 3, '429 LIMIT_EXCEEDED': 7 });
    const refused = guesses.find(({ status }) => status === 429)!;
    expect(Number(refused.retryAfter)).toBeGreaterThan(0);
  });

  it('[SHOP-17] publishes statements one at a time, over both processes', async () => {
    const answers = await many(10, running.shops, (one) => post(one, '/sales/matcha/statements'));
    for (const kind of Object.keys(tally(answers))) expect(['201', '409 PERMIT_UNAVAILABLE']).toContain(kind);
    const { statements } = await read<{ statements: unknown[] }>(running.shop, '/sales/matcha/statements');
    expect(statements).toHaveLength(tally(answers)['201']!);
    expect(statements[0]).toEqual({ charges: 0, cents: 0 });
  });

  describe('given bad requests', () => {
    const order = (body: unknown, headers: Record<string, string> = { 'Idempotency-Key': randomUUID() }) =>
      post(running.shop, '/orders', body, headers);

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
      ['an unknown field', { ...tea, price: 0 }, /price should not exist/],
      ['a body that is not JSON', '{"sku":', /JSON/],
      ['a JSON array', [tea], /./],
    ])('[SHOP-5] refuses an order with %s', async (_, body, detail) => {
      const before = await countOrders();
      expect(await order(body)).toMatchObject(problem(400, detail));
      expect(await countOrders()).toBe(before);
    });

    it('[SHOP-5] leaves the key of a refused order free for a correct one', async () => {
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
      await send('PUT', running.shop, '/accounts/ida', { balance: 10 });
      expect(await post(running.shop, '/accounts/ida/withdrawals', { amount })).toMatchObject(
        problem(400, /amount/),
      );
      expect(await read(running.shop, '/accounts/ida')).toEqual({ id: 'ida', balance: 10 });
    });

    it('[SHOP-5] refuses to withdraw more than the balance or from a missing account, and writes nothing', async () => {
      await send('PUT', running.shop, '/accounts/ida', { balance: 10 });
      const tooMuch = await post(running.shop, '/accounts/ida/withdrawals', { amount: 11 });
      expect(tooMuch).toMatchObject(problem(409, /balance is 10/, 'INSUFFICIENT_FUNDS'));
      expect(await read(running.shop, '/accounts/ida')).toEqual({ id: 'ida', balance: 10 });
      expect(await post(running.shop, '/accounts/nobody/withdrawals', { amount: 1 })).toMatchObject(
        problem(404, /no account nobody/),
      );
      expect(await send('GET', running.shop, '/accounts/nobody')).toMatchObject(
        problem(404, /no account nobody/),
      );
    });

    it.each([0, -1, 0.5, '1', null, 1_001])('[SHOP-5] refuses a reservation of %p', async (quantity) => {
      await send('PUT', running.shop, '/inventory/mate', { stock: 10 });
      expect(await post(running.shop, '/inventory/mate/reservations', { quantity })).toMatchObject(
        problem(400, /quantity/),
      );
      expect(await read(running.shop, '/inventory/mate')).toEqual({
        sku: 'mate',
        stock: 10,
        reservations: 0,
      });
    });

    it('[SHOP-5] refuses to reserve more than the stock or an unknown article, and takes nothing', async () => {
      await send('PUT', running.shop, '/inventory/mate', { stock: 10 });
      const tooMany = await post(running.shop, '/inventory/mate/reservations', { quantity: 11 });
      expect(tooMany).toMatchObject(problem(409, /limit has been reached/, 'COUNTER_LIMIT'));
      expect(await read(running.shop, '/inventory/mate')).toEqual({
        sku: 'mate',
        stock: 10,
        reservations: 0,
      });
      expect(await post(running.shop, '/inventory/unheard-of/reservations', { quantity: 1 })).toMatchObject(
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
    ])('[SHOP-5] rejects %s %s %j with status %i and problem details', async (method, path, body, status) => {
      expect(await send(method, running.shop, path, body)).toMatchObject(problem(status, /./));
    });
  });
});

/**
 * The same load as above. A race need not show in every round; if none of these shows it,
 * something is wrong here.
 */
const ROUNDS = 20;

describe('the naive twins under load', () => {
  const successes = (answers: Answer[]): number => answers.filter(({ status }) => status === 201).length;

  /**
   * Repeats the round until it returns true; says in which round that was, or that it never was.
   */
  async function roundThatGoesWrong(round: () => Promise<boolean>): Promise<number | 'never'> {
    for (let i = 1; i <= ROUNDS; i++) if (await round()) return i;
    return 'never';
  }

  it('[SHOP-4] make several orders of one idempotency key', async () => {
    const wrong = await roundThatGoesWrong(async () => {
      const { count: before } = await read<{ count: number }>(running.shop, '/orders');
      const headers = { 'Idempotency-Key': randomUUID() };
      await twoHundred(running.shops, (one) =>
        post(one, '/naive/orders', { sku: 'tea', quantity: 1 }, headers),
      );
      const { count } = await read<{ count: number }>(running.shop, '/orders');
      return count - before > 1;
    });
    expect(wrong).not.toBe('never');
  });

  it('[SHOP-4] pay out more than the balance', async () => {
    const wrong = await roundThatGoesWrong(async () => {
      await send('PUT', running.shop, '/accounts/carol', { balance: 100 });
      const withdraw = (one: Shop) => post(one, '/naive/accounts/carol/withdrawals', { amount: 1 });
      return successes(await twoHundred(running.shops, withdraw)) > 100;
    });
    expect(wrong).not.toBe('never');
  });

  it('[SHOP-4] accept more reservations than the stock', async () => {
    const wrong = await roundThatGoesWrong(async () => {
      await send('PUT', running.shop, '/inventory/pu-erh', { stock: 50 });
      const reserve = (one: Shop) => post(one, '/naive/inventory/pu-erh/reservations', { quantity: 1 });
      const accepted = successes(await twoHundred(running.shops, reserve));
      const { reservations } = await read<{ reservations: number }>(running.shop, '/inventory/pu-erh');
      return accepted > 50 && reservations === accepted;
    });
    expect(wrong).not.toBe('never');
  });

  it('[SHOP-4] are right as long as requests come one after the other', async () => {
    await send('PUT', running.shop, '/accounts/carol', { balance: 2 });
    await send('PUT', running.shop, '/inventory/pu-erh', { stock: 2 });
    const headers = { 'Idempotency-Key': randomUUID() };
    const statuses: number[][] = [];
    for (let i = 0; i < 3; i++) {
      const one = running.shops[i % 2]!;
      statuses.push([
        (await post(one, '/naive/accounts/carol/withdrawals', { amount: 1 })).status,
        (await post(one, '/naive/inventory/pu-erh/reservations', { quantity: 1 })).status,
        (await post(one, '/naive/orders', { sku: 'tea', quantity: 1 }, headers)).status,
      ]);
    }
    expect(statuses).toEqual([
      [201, 201, 201],
      [201, 201, 201],
      [409, 409, 201],
    ]);
  });
});

describe('the inventory of the shop, in two processes', () => {
  let shop: Shop;
  let shops: readonly Shop[];
  let other: Shop;

  beforeAll(() => {
    ({ shop, shops } = running);
    other = running.shops[1]!;
  });

  const stock = async (sku: string, of: Shop = shop): Promise<number> =>
    (await read<{ stock: number }>(of, `/inventory/${sku}`)).stock;

  const setStock = (sku: string, amount: number) => send('PUT', shop, `/inventory/${sku}`, { stock: amount });

  it('[SHOP-9] reserves 200 carts whole or not at all', async () => {
    await Promise.all([setStock('tea', 50), setStock('milk', 80)]);
    const lines = [
      { sku: 'tea', quantity: 1 },
      { sku: 'milk', quantity: 2 },
    ];
    const answers = await twoHundred(shops, (one, i) =>
      post(one, '/inventory/carts', { lines: i % 3 ? lines : lines.toReversed() }),
    );
    expect(tally(answers)).toEqual({ 201: 40, '409 NOT_IN_STOCK': 160 });
    expect([await stock('tea'), await stock('milk')]).toEqual([10, 0]);
    expect(answers.find(({ status }) => status === 409)?.problem?.detail).toMatch(/too little of milk/);
  });

  it('[SHOP-9] holds for a while, and anyone with the id can buy or release the hold', async () => {
    await setStock('tea', 10);
    const hold = async (quantity: number, seconds: number): Promise<string> => {
      const { status, body } = await post(shop, '/inventory/tea/holds', { quantity, seconds });
      expect(status).toBe(201);
      return (JSON.parse(body) as { id: string }).id;
    };
    const [bought, released, forgotten] = [await hold(3, 600), await hold(2, 600), await hold(1, 1)];
    expect(await post(other, '/inventory/tea/holds', { quantity: 11, seconds: 1 })).toMatchObject({
      problem: { status: 409, code: 'COUNTER_LIMIT' },
    });
    expect((await send('PUT', other, `/inventory/holds/${bought}/purchase`)).status).toBe(204);
    expect((await send('DELETE', other, `/inventory/holds/${released}`)).status).toBe(204);
    await waitFor('the expiry', async () => (await stock('tea', other)) === 7);
    for (const id of [bought, released, forgotten, 'no-such-hold']) {
      expect(await send('PUT', shop, `/inventory/holds/${id}/purchase`)).toMatchObject({
        problem: { status: 409, code: 'HOLD_GONE' },
      });
      expect((await send('DELETE', shop, `/inventory/holds/${id}`)).status).toBe(409);
    }
    expect(await stock('tea')).toBe(7);
  });

  it('[SHOP-9] returns no hold to a stock that was set again', async () => {
    await setStock('tea', 10);
    const { body } = await post(shop, '/inventory/tea/holds', { quantity: 3, seconds: 600 });
    await setStock('tea', 20);
    expect(
      (await send('DELETE', shop, `/inventory/holds/${(JSON.parse(body) as { id: string }).id}`)).status,
    ).toBe(409);
    expect(await stock('tea')).toBe(20);
  });

  it.each<[string, string, unknown, RegExp]>([
    ['an empty cart', 'carts', { lines: [] }, /lines/],
    ['a cart that is no list', 'carts', { lines: 'tea' }, /lines/],
    ['a cart of nothing', 'carts', { lines: [null] }, /lines/],
    [
      'an article twice',
      'carts',
      {
        lines: [
          { sku: 'tea', quantity: 1 },
          { sku: 'tea', quantity: 1 },
        ],
      },
      /once/,
    ],
    ['a sku with braces', 'carts', { lines: [{ sku: '{tea}', quantity: 1 }] }, /sku/],
    ['a quantity of 0', 'carts', { lines: [{ sku: 'tea', quantity: 0 }] }, /quantity/],
    ['a hold of 0', 'tea/holds', { quantity: 0, seconds: 1 }, /quantity/],
    ['a hold for no time', 'tea/holds', { quantity: 1 }, /seconds/],
    ['a hold for a day', 'tea/holds', { quantity: 1, seconds: 86_400 }, /seconds/],
  ])('[SHOP-5] refuses %s', async (_, path, body, detail) => {
    expect(await post(shop, `/inventory/${path}`, body)).toMatchObject({
      problem: { status: 400, detail: expect.stringMatching(detail) },
    });
  });
});

interface Change {
  from: number | null;
  to: number;
  by: string;
}

describe('the product editor of the shop', () => {
  const describeTea = (text: string, headers: Record<string, string>, one = running.shop) =>
    send('PUT', one, '/products/tea/description', { text }, headers);

  const etagOfTea = async (): Promise<string> =>
    (await fetch(`${running.shop.url}/products/tea/description`)).headers.get('etag')!;

  it('[SHOP-7] saves one of 200 parallel edits that began from the same text', async () => {
    expect((await send('GET', running.shop, '/products/tea/description')).status).toBe(404);
    const first = await twoHundred(running.shops, (one, i) =>
      describeTea(`text ${i}`, { 'If-None-Match': '*' }, one),
    );
    expect(tally(first)).toEqual({ 200: 1, '412 DESCRIPTION_CHANGED': 199 });

    const etag = await etagOfTea();
    const edits = await twoHundred(running.shops, (one, i) =>
      describeTea(`edit ${i}`, { 'If-Match': etag }, one),
    );
    expect(tally(edits)).toEqual({ 200: 1, '412 DESCRIPTION_CHANGED': 199 });
    const saved = edits.find(({ status }) => status === 200)!;
    expect(await read(running.shop, '/products/tea/description')).toEqual(JSON.parse(saved.body));
    expect((await describeTea('again', { 'If-Match': await etagOfTea() })).status).toBe(200);
  });

  it('[SHOP-7] logs 200 parallel changes of a price in one chain', async () => {
    const answers = await twoHundred(running.shops, (one, i) =>
      send('PUT', one, '/products/tea/price', { cents: i, changedBy: `clerk ${i}` }),
    );
    expect(tally(answers)).toEqual({ 200: 200 });
    const changes: Change[] = [];
    let next: string | null = '';
    do {
      const page: { changes: Change[]; next: string | null } = await read(
        running.shop,
        `/products/tea/price/history${next && `?before=${next}`}`,
      );
      changes.unshift(...page.changes.toReversed());
      next = page.next;
    } while (next !== null);
    expect(changes).toHaveLength(200);
    for (const [i, { from, to, by }] of changes.entries()) {
      expect([from, by]).toEqual([i === 0 ? null : changes[i - 1]!.to, `clerk ${to}`]);
    }
  });

  it('[SHOP-5] refuses bad requests with problem details', async () => {
    expect(await describeTea('x', {})).toMatchObject({
      problem: { status: 428, code: 'PRECONDITION_REQUIRED' },
    });
    expect((await describeTea('\ud800', { 'If-None-Match': '*' })).problem?.status).toBe(400);
    const price = (body: unknown) => send('PUT', running.shop, '/products/tea/price', body);
    expect((await price({ cents: 1.5, changedBy: 'ada' })).problem?.status).toBe(400);
    expect((await price({ cents: 1 })).problem?.status).toBe(400);
    expect((await send('GET', running.shop, '/products/tea/price/history?before=0-0')).problem?.status).toBe(
      400,
    );
    expect((await send('GET', running.shop, '/products/{tea}/price/history')).problem?.status).toBe(400);
  });
});

describe('transfers and statements of the shop', () => {
  const balanceOf = async (id: string): Promise<number> =>
    (await read<{ balance: number }>(running.shop, `/accounts/${id}`)).balance;

  it('[SHOP-8] accept exactly 100 of 200 parallel transfers of 1 from 100, and lose no cent', async () => {
    await send('PUT', running.shop, '/accounts/nina', { balance: 100 });
    await send('PUT', running.shop, '/accounts/otto', { balance: 0 });
    const answers = await twoHundred(running.shops, (one) =>
      post(one, '/accounts/nina/transfers', { to: 'otto', amount: 1 }),
    );
    expect(tally(answers)).toEqual({ 201: 100, '409 INSUFFICIENT_FUNDS': 100 });
    expect([await balanceOf('nina'), await balanceOf('otto')]).toEqual([0, 100]);
  });

  it('[SHOP-8] lose no cent when transfers go both ways', async () => {
    const ids = ['paul', 'quin', 'rosa'];
    for (const id of ids) await send('PUT', running.shop, `/accounts/${id}`, { balance: 50 });
    const answers = await twoHundred(running.shops, (one, i) =>
      post(one, `/accounts/${ids[i % 3]}/transfers`, {
        to: ids[(i + 1 + (i % 2)) % 3],
        amount: 1 + (i % 30),
      }),
    );
    for (const kind of Object.keys(tally(answers))) expect(['201', '409 INSUFFICIENT_FUNDS']).toContain(kind);
    const balances = await Promise.all(ids.map(balanceOf));
    expect(Math.min(...balances)).toBeGreaterThanOrEqual(0);
    expect(balances.reduce((sum, balance) => sum + balance, 0)).toBe(150);
  });

  it('[SHOP-8] return three statements at once, with the latest transfers', async () => {
    await send('PUT', running.shop, '/accounts/sven', { balance: 10 });
    await post(running.shop, '/accounts/sven/transfers', { to: 'tina', amount: 4 });
    await post(running.shop, '/accounts/tina/transfers', { to: 'sven', amount: 1 });
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, i) => post(running.shops[i % 2]!, '/accounts/sven/statements')),
    );
    const [first] = answers.filter(({ status }) => status === 201);
    expect(tally(answers)['201']).toBeGreaterThanOrEqual(3);
    // More only if ten requests took as long as a refill does.
    expect(tally(answers)['201']).toBeLessThan(6);
    expect(JSON.parse(first!.body)).toMatchObject({
      id: 'sven',
      balance: 7,
      transfers: [
        { amount: 1, balance: 7 },
        { amount: -4, balance: 6 },
      ],
    });
    expect(answers.find(({ status }) => status === 429)?.problem?.detail).toMatch(/can be had in \d+ s/);
  });

  it.each([
    [{ to: 'otto', amount: 0 }, 400],
    [{ to: 'otto', amount: 0.5 }, 400],
    [{ to: 'otto' }, 400],
    [{ to: 'a{b}', amount: 1 }, 400],
    [{ amount: 1 }, 400],
    [{ to: 'nina', amount: 1 }, 400],
    [{ to: 'otto', amount: 1, from: 'x' }, 400],
    [{ to: 'otto', amount: 1_000_000 }, 409],
  ])('[SHOP-5] refuse a transfer of %j with status %i', async (body, status) => {
    await send('PUT', running.shop, '/accounts/nina', { balance: 5 });
    const answer = await post(running.shop, '/accounts/nina/transfers', body);
    expect([answer.status, answer.problem?.status]).toEqual([status, status]);
    // Clients must see neither key nor balance.
    expect(answer.body).not.toMatch(/bank|\b5\b/);
    expect(await balanceOf('nina')).toBe(5);
  });
});

interface CatalogImport {
  edition: number;
  written: number;
  state: string;
}

describe("the shop's catalogue", () => {
  const importCatalog = async (edition: number, products: number): Promise<CatalogImport> => {
    const { status, body } = await post(running.shop, '/catalog/imports', { edition, products });
    expect(status).toBe(201);
    return JSON.parse(body) as CatalogImport;
  };
  const count = async (): Promise<number> =>
    (await read<{ products: number }>(running.shops[1]!, '/catalog')).products;

  it('[SHOP-10] is seen whole while another edition is imported, and the import reports its progress', async () => {
    expect(await importCatalog(1, 3_000)).toEqual({ edition: 1, written: 3_000, state: 'live' });
    let done = false;
    const importing = importCatalog(2, 100_000).finally(() => (done = true));
    const counts = new Set<number>();
    const progress = new Set<number>();
    while (!done) {
      counts.add(await count());
      progress.add((await read<CatalogImport>(running.shop, '/catalog/imports/latest')).written);
    }
    expect(await importing).toEqual({ edition: 2, written: 100_000, state: 'live' });
    expect([...counts].filter((one) => one !== 3_000 && one !== 100_000)).toEqual([]);
    expect(progress.size).toBeGreaterThan(2);
    expect(await read(running.shop, '/catalog/sku-99999')).toMatchObject({ edition: 2 });
  });

  it('[SHOP-10] is never replaced by an earlier edition, and can return to the previous one', async () => {
    await importCatalog(11, 2_000);
    await importCatalog(12, 1_000);
    expect(await importCatalog(10, 5)).toMatchObject({ state: 'older than the live one' });
    expect(await count()).toBe(1_000);
    expect(await post(running.shop, '/catalog/rollback')).toMatchObject({
      status: 200,
      body: '{"rolledBack":true}',
    });
    expect(await count()).toBe(2_000);
    expect(await post(running.shop, '/catalog/rollback')).toMatchObject({
      status: 200,
      body: '{"rolledBack":false}',
    });
  });

  it('[SHOP-5] refuses bad imports', async () => {
    for (const body of [
      {},
      { edition: -1, products: 1 },
      { edition: 1, products: 0 },
      { edition: 1, products: 1e9 },
    ]) {
      expect(await post(running.shop, '/catalog/imports', body)).toMatchObject({
        status: 400,
        problem: { status: 400 },
      });
    }
    expect(await send('GET', running.shop, '/catalog/none')).toMatchObject({ status: 404 });
  });
});

describe('the OpenAPI document of the shop', () => {
  let document: OpenAPIObject;

  beforeAll(async () => {
    document = await read(running.shop, '/docs-json');
  });

  it('[SHOP-13] is valid, and describes the input and output of every endpoint', () => {
    expect(faultsOf(document)).toEqual([]);
    const operations = operationsOf(document);
    expect(operations.size).toBeGreaterThan(25);
    for (const [name, { responses }] of operations) {
      const [status, success] = Object.entries(responses).find(([one]) => one.startsWith('2'))!;
      const schema = success.content?.['application/json']?.schema;
      if (status === '204' || name === 'GET /') continue;
      expect([name, schema?.$ref ?? schema?.properties]).toEqual([name, expect.anything()]);
    }
  });

  it('[SHOP-13] shows the Idempotency-Key header and the problems of orders', () => {
    const { parameters, responses } = operationsOf(document).get('POST /orders')!;
    expect(parameters.map(({ name }) => name)).toEqual(['Idempotency-Key']);
    expect(Object.keys(responses)).toEqual(['201', '400', '409', '422', '503']);
    expect(responses['201']!.headers).toHaveProperty('Idempotency-Replayed');
  });

  it('[SHOP-13] has a page that loads nothing from other hosts', async () => {
    const { url } = running.shop;
    const page = await (await fetch(`${url}/docs`)).text();
    const assets = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, one]) => one!);
    expect(assets.length).toBeGreaterThan(3);
    for (const asset of assets) {
      expect(asset).not.toMatch(/^(?:https?:)?\/\//);
      expect((await fetch(new URL(asset, `${url}/docs`))).status).toBe(200);
    }
  });
});

// At the end, for connections may break when Redis is paused.
describe('the shop while Redis is silent', () => {
  it('[SHOP-5] answers 503, runs nothing unprotected, and continues afterwards', async () => {
    const { shop, redis } = running;
    const countOrders = async () => (await read<{ count: number }>(shop, '/orders')).count;
    const headers = { 'Idempotency-Key': randomUUID() };
    const order = () => post(shop, '/orders', { sku: 'tea', quantity: 2 }, headers);
    const before = await countOrders();
    redis.pause();
    let stuck: Answer;
    try {
      stuck = await order();
    } finally {
      redis.resume();
    }
    expect(stuck).toMatchObject({ status: 503, problem: { status: 503 } });
    expect(Number(stuck.retryAfter)).toBeGreaterThan(0);
    expect(await countOrders()).toBe(before);
    expect(await order()).toMatchObject({ status: 201 });
    expect(await countOrders()).toBe(before + 1);
  });

  it('[SHOP-14] is reported as up with Redis, and as down with the reason without its answers', async () => {
    const { shop, redis } = running;
    const up = await send('GET', shop, '/health');
    expect(up.status).toBe(200);
    expect(JSON.parse(up.body)).toMatchObject({
      status: 'ok',
      details: { redis: { status: 'up', transactions: { waiting: 0 } } },
    });
    redis.pause();
    try {
      const down = await send('GET', shop, '/health');
      expect(down.status).toBe(503);
      expect(JSON.parse(down.body)).toMatchObject({
        details: { redis: { status: 'down', code: 'REDIS_UNAVAILABLE' } },
      });
    } finally {
      redis.resume();
    }
  });
});
