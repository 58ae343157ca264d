import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { waitFor } from '../support/wait-for.js';
import { send, ShopDidNotStart, startShop, stopShop, type Shop } from './shop.js';

describe("the shop's lifetime", () => {
  let shop: Shop | undefined;

  afterEach(async () => {
    if (shop) await stopShop(shop);
    shop = undefined;
  });

  /** An open connection to the embedded Redis, whose end is the end of the server. */
  async function connectToEmbeddedRedis(port: number): Promise<Socket> {
    const socket = connect({ host: '127.0.0.1', port });
    await once(socket, 'connect');
    return socket.resume();
  }

  const isRefused = (port: number): Promise<boolean> =>
    new Promise((resolve) => {
      const socket = connect({ host: '127.0.0.1', port }, () => socket.destroy());
      socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code === 'ECONNREFUSED'));
      socket.once('close', () => resolve(false));
    });

  it.each([
    ['SIGTERM', 0, (one: Shop) => one.process.kill('SIGTERM')],
    [
      'Ctrl-C, which arrives twice',
      0,
      (one: Shop) => one.process.kill('SIGINT') && one.process.kill('SIGINT'),
    ],
    ['kill -9', 'SIGKILL', (one: Shop) => one.process.kill('SIGKILL')],
    ['the end of the script that started it', 0, (one: Shop) => one.process.disconnect()],
  ])('[SHOP-6] ends with its embedded Redis by %s', async (_, how, end) => {
    shop = await startShop();
    const [, port, pid] = /^Redis: redis:\/\/127\.0\.0\.1:(\d+), process (\d+)/m.exec(shop.output) ?? [];
    expect(() => process.kill(Number(pid), 0)).not.toThrow();
    const redis = await connectToEmbeddedRedis(Number(port));
    // fetch keeps its connection open: it must not hold the shop up.
    expect(await send('GET', shop, '/accounts/alice')).toMatchObject({
      status: 200,
      body: expect.stringMatching(/100/),
    });

    const gone = once(redis, 'close');
    end(shop);
    expect(await shop.exited).toBe(how);
    await gone;
    // A process that ends may close its connections before the socket on which it takes new ones.
    await waitFor('nobody listens there', () => isRefused(Number(port)));
  });

  it('[SHOP-6] prints its address and three requests that work', async () => {
    shop = await startShop();
    const curls = shop.output.split('\n').filter((line) => line.includes('curl '));
    expect(curls).toHaveLength(3);
    for (const curl of curls) {
      const [, url, path] = /curl -i (http:\/\/localhost:\d+)(\/\S+)/.exec(curl) ?? [];
      const [, key] = /-H 'Idempotency-Key: ([^']+)'/.exec(curl) ?? [];
      const [, body] = /-d '([^']+)'/.exec(curl) ?? [];
      expect(url).toBe(shop.url);
      expect(await send('POST', shop, path!, body, key ? { 'Idempotency-Key': key } : {})).toMatchObject({
        status: 201,
      });
    }
  });

  it('[SHOP-6] reports that its port is taken, and leaves no Redis behind', async () => {
    const other = createServer().listen(0);
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    const failure = await startShop({ PORT: String(port) }).catch((error: unknown) => error);
    other.close();
    expect(failure).toBeInstanceOf(ShopDidNotStart);
    expect(failure).toMatchObject({ how: 1, output: expect.stringContaining(`Port ${port} is taken`) });
  });

  it.each([
    ['PORT', { PORT: 'http' }, /PORT must be a number/],
    ['REDIS_URL', { REDIS_URL: 'localhost:6379' }, /URL/],
    [
      'REDIS_URL, and keeps its password to itself',
      { REDIS_URL: 'redi://:s3cret@localhost' },
      /^(?!.*s3cret).*redis:/s,
    ],
    ['REDIS_SERVER_BINARY', { REDIS_SERVER_BINARY: '/nowhere/redis-server' }, /no Redis server found/],
  ])('[SHOP-6] does not start with a wrong %s, and gives the reason', async (_, env, why) => {
    const failure = await startShop(env).catch((error: unknown) => error);
    expect(failure).toMatchObject({ how: 1, output: expect.stringMatching(why) });
  });
});
