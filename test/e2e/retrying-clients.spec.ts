import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import axios from 'axios';
import axiosRetry from 'axios-retry';
import {
  startFaultProxy,
  startRedisServer,
  type FaultProxy,
  type RedisServer,
} from '../../lib/testing/index.js';
import { startTcpCutter, type TcpCutter } from '../support/tcp-cutter.js';
import { waitFor } from '../support/wait-for.js';
import { post, read, startShop, stopShop, type Shop } from './shop.js';

const ORDER = { sku: 'tea', quantity: 2 };

interface Response {
  readonly status: number;
  readonly body: string;
}

/** Clients that repeat a request by themselves, as they are used in the field. */
const clients: Record<string, (url: string, key: string) => Promise<Response>> = {
  'axios-retry': async (url, key) => {
    const client = axios.create({ responseType: 'text', transformResponse: (text: string) => text });
    axiosRetry(client, {
      retries: 5,
      retryDelay: axiosRetry.exponentialDelay,
      // By default it repeats no POST; with an Idempotency-Key it may.
      retryCondition: (error) => axiosRetry.isNetworkError(error) || axiosRetry.isRetryableError(error),
    });
    const { status, data } = await client.post<string>(`${url}/orders`, ORDER, {
      headers: { 'Idempotency-Key': key },
    });
    return { status, body: data };
  },

  'curl --retry': async (url, key) => {
    const args = [
      ...[
        '--silent',
        '--show-error',
        '--fail',
        '--retry',
        '5',
        '--retry-all-errors',
        '--write-out',
        '\n%{http_code}',
      ],
      ...['-H', 'Content-Type: application/json', '-H', `Idempotency-Key: ${key}`],
      ...['--data', JSON.stringify(ORDER), `${url}/orders`],
    ];
    const { stdout } = await promisify(execFile)('curl', args).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'ENOENT' ? new Error('This test needs curl 7.71 or later: install it') : error;
    });
    const [body, status] = stdout.split('\n');
    return { status: Number(status), body: body! };
  },
};

describe.each(Object.entries(clients))('orders sent by %s', (_, order) => {
  let server: RedisServer;
  let proxy: FaultProxy;
  let shop: Shop;
  let cutter: TcpCutter;

  beforeAll(async () => {
    server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'] });
    proxy = await startFaultProxy({ target: server });
    shop = await startShop({ REDIS_URL: proxy.url });
    const { hostname, port } = new URL(shop.url);
    cutter = await startTcpCutter({ host: hostname, port: Number(port) });
  });

  afterEach(() => proxy.reset());

  afterAll(async () => {
    await cutter?.stop();
    if (shop) await stopShop(shop);
    await proxy?.stop();
    await server?.stop();
  });

  const countOrders = async (): Promise<number> => (await read<{ count: number }>(shop, '/orders')).count;
  /** Expects one order more, and the same answer when the request is sent once more. */
  const expectOneOrder = async (before: number, key: string, response: object): Promise<void> => {
    expect(await countOrders()).toBe(before + 1);
    // By the same host: it is part of what tells callers apart.
    const again = { ...shop, url: cutter.url };
    expect(await post(again, '/orders', ORDER, { 'Idempotency-Key': key })).toMatchObject({
      ...response,
      replayed: true,
    });
  };
  /**
   * Matches commands of the library only: the shop's own client also repeats its commands, and some
   * of them count.
   */
  const scripts = (times: number) => ({
    times,
    match: ({ name }: { name: string }) => name === 'EVALSHA' || name === 'EVAL',
  });

  it.each<[string, () => void, () => void]>([
    ['whose response is lost', () => cutter.loseAnswers(1), () => expect(cutter.lost).toBeGreaterThan(0)],
    [
      'whose response is lost twice',
      () => cutter.loseAnswers(2),
      () => expect(cutter.lost).toBeGreaterThan(2),
    ],
    [
      'whose claim and record are not confirmed by Redis',
      () => void proxy.loseReplies(scripts(2)),
      () => undefined,
    ],
    [
      'whose response is lost, and whose claim and record are not confirmed by Redis',
      () => {
        proxy.loseReplies(scripts(2));
        cutter.loseAnswers(1);
      },
      () => undefined,
    ],
  ])('[SHOP-11] one %s is stored once, and the client gets it', async (_what, harm, check) => {
    const before = await countOrders();
    const key = randomUUID();
    harm();
    const response = await order(cutter.url, key);
    check();
    expect(response.status).toBe(201);
    await expectOneOrder(before, key, response);
  });

  it('[SHOP-11] are stored once when Redis is away and returns before the client retries', async () => {
    const before = await countOrders();
    const key = randomUUID();
    const { connections } = proxy;
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    const ordering = order(cutter.url, key);
    // The shop says so, with the time after which to try again.
    const refusal = await post(shop, '/orders', ORDER, { 'Idempotency-Key': randomUUID() });
    expect(refusal).toMatchObject({ status: 503, retryAfter: '1', problem: { code: 'REDIS_UNAVAILABLE' } });
    proxy.refuseConnections(false);
    const response = await ordering;
    expect(response.status).toBe(201);
    await waitFor('the shop to be connected again', () => proxy.connections > connections);
    await expectOneOrder(before, key, response);
  });
});
