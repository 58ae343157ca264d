import { request } from 'node:http';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { startRedisServer } from '../../lib/testing/index.js';
import { send, ShopDidNotStart, startShop, stopShop, type Shop } from './shop.js';

describe('access to the shop', () => {
  let shop: Shop;

  beforeAll(async () => {
    shop = await startShop();
  });

  afterAll(async () => {
    if (shop) await stopShop(shop);
  });

  /** The status of a request that names this host. */
  const statusAs = (host: string, path = '/lab'): Promise<number> =>
    new Promise((resolve, reject) => {
      const { port } = new URL(shop.url);
      request({ host: '127.0.0.1', port, path, headers: { Host: host } }, (response) => {
        response.resume();
        resolve(response.statusCode!);
      })
        .once('error', reject)
        .end();
    });

  const isOpen = (host: string): Promise<boolean> =>
    new Promise((resolve) => {
      const socket = connect({ host, port: Number(new URL(shop.url).port), timeout: 2_000 });
      const settle = (answer: boolean) => (): void => {
        socket.destroy();
        resolve(answer);
      };
      socket.once('connect', settle(true)).once('error', settle(false)).once('timeout', settle(false));
    });

  it('[LAB-5] listens on loopback unless HOST is set', async () => {
    expect(await isOpen('127.0.0.1')).toBe(true);
    const outside = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .filter(({ internal, family }) => !internal && family === 'IPv4');
    for (const { address } of outside) expect(await isOpen(address)).toBe(false);
  });

  it.each(['evil.example', 'evil.example:3000', 'localhost.evil.example', '127.0.0.1.evil.example', ' '])(
    '[LAB-5] refuses a request for the host %j, whose page could read the response',
    async (host) => {
      for (const path of ['/', '/lab', '/accounts/alice', '/docs', '/guide/README'])
        expect(await statusAs(host, path)).toBe(421);
    },
  );

  it.each(['localhost', 'LOCALHOST:3000', 'localhost.', '127.0.0.1:80', '[::1]:3000', '192.168.0.7'])(
    '[LAB-5] accepts a request for the host %j',
    async (host) => {
      expect(await statusAs(host)).toBe(200);
    },
  );

  it('[LAB-5] names a HOST that it cannot listen on', async () => {
    const failure = await startShop({ HOST: '203.0.113.1' }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ShopDidNotStart);
    expect(failure).toMatchObject({
      output: expect.stringContaining('HOST must be a name or an address of this machine'),
    });
  });
});

describe('the documentation that the shop serves', () => {
  it('[LAB-5] has every page, with links that lead to pages, and serves no other file', async () => {
    const server = await startRedisServer();
    const shop = await startShop({ REDIS_URL: server.url });
    try {
      const seen = new Set<string>();
      const ahead = ['/guide/docs/README'];
      for (let path = ahead.pop(); path; path = ahead.pop()) {
        if (seen.has(path)) continue;
        seen.add(path);
        const { status, body } = await send('GET', shop, path);
        expect({ path, status }).toEqual({ path, status: 200 });
        for (const [, href] of body.matchAll(/href="(\/guide\/[^"#]+)/g))
          if (!href!.startsWith('/guide/assets/')) ahead.push(href!);
      }
      expect(seen.size).toBeGreaterThan(35);
      for (const path of [
        '/guide/docs/nothing',
        '/guide/package',
        '/guide/docs/..%2FREADME',
        '/guide/lib/index',
      ])
        expect(await send('GET', shop, path)).toMatchObject({ status: 404 });
    } finally {
      await stopShop(shop);
      await server.stop();
    }
  });
});
