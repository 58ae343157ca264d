import { Controller, Post, type INestApplication } from '@nestjs/common';
import { InvalidArgumentError, Idempotent, type AtomicRedisOptions } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { PLATFORMS, startApp } from './http-app.js';

let gate: Promise<void> = Promise.resolve();
let runs = 0;

@Controller()
class OrdersController {
  @Post('orders')
  @Idempotent()
  async create(): Promise<{ run: number }> {
    await gate;
    return { run: ++runs };
  }

  @Post('own')
  @Idempotent({ headers: { key: 'X-Request-Key', replayed: false, echo: true } })
  own(): { run: number } {
    return { run: ++runs };
  }

  @Post('by-arguments')
  @Idempotent({ key: () => 'the key' })
  async byArguments(): Promise<{ run: number }> {
    return { run: ++runs };
  }
}

describe.each(PLATFORMS)('headers of keys and replays on %s', (platform) => {
  const redis = useRedis();
  let app: INestApplication;
  let url: string;

  const start = async (idempotency: AtomicRedisOptions['idempotency'] = {}): Promise<void> => {
    const started = await startApp(
      platform,
      { connection: redis.server.url, idempotency },
      { controllers: [OrdersController] },
    );
    app = started.app;
    url = `http://127.0.0.1:${started.port}`;
  };

  afterEach(() => app.close());

  const post = (
    path: string,
    headers: Record<string, string> = { 'idempotency-key': 'k' },
  ): Promise<Response> =>
    fetch(`${url}/${path}`, { method: 'POST', headers, signal: AbortSignal.timeout(30_000) });

  it.each<[string, AtomicRedisOptions['idempotency'], string, string[]]>([
    ['by default', {}, 'idempotency-key', ['idempotency-replayed']],
    ['by the preset ietf', { preset: 'ietf' }, 'idempotency-key', ['idempotency-replayed']],
    [
      'by the preset stripe',
      { preset: 'stripe' },
      'idempotency-key',
      ['idempotent-replayed', 'idempotency-key'],
    ],
    [
      'by a preset and by the application',
      { preset: 'stripe', headers: { key: 'X-Key', echo: false } },
      'x-key',
      ['idempotent-replayed'],
    ],
    [
      'by the application',
      { headers: { replayed: 'X-Again', echo: true } },
      'idempotency-key',
      ['x-again', 'idempotency-key'],
    ],
    ['without a mark', { headers: { replayed: false } }, 'idempotency-key', []],
  ])('[ID-22] are named %s', async (_, idempotency, name, expected) => {
    await start(idempotency);
    const names = ['idempotency-key', 'x-key', 'idempotency-replayed', 'idempotent-replayed', 'x-again'];
    const there = ({ headers }: Response): string[] => names.filter((one) => headers.has(one)).toSorted();
    const first = await post('orders', { [name]: 'k' });
    expect(there(first)).toEqual(expected.filter((one) => one.endsWith('key')));
    const second = await post('orders', { [name]: 'k' });
    expect(await second.text()).toBe(await first.text());
    expect(there(second)).toEqual(expected.toSorted());
    for (const one of expected) expect(second.headers.get(one)).toBe(one.endsWith('key') ? 'k' : 'true');
    const missing = await post('orders', {});
    expect(missing.status).toBe(400);
    expect((await missing.text()).toLowerCase()).toContain(`an ${name} header`);
  });

  it('[ID-22] of a route override those of the module, and the key is returned with an error too', async () => {
    await start({ preset: 'stripe' });
    await post('own', { 'x-request-key': 'k' });
    const replayed = await post('own', { 'x-request-key': 'k' });
    expect(replayed.headers.get('x-request-key')).toBe('k');
    expect(replayed.headers.get('idempotent-replayed')).toBeNull();
    let open!: () => void;
    gate = new Promise((resolve) => (open = resolve));
    const both = [post('orders'), post('orders')];
    const refused = await Promise.race(both);
    open();
    expect(refused.status).toBe(409);
    expect(refused.headers.get('idempotency-key')).toBe('k');
    expect((await Promise.all(both)).map(({ status }) => status)).toEqual(expect.arrayContaining([201, 409]));
    expect((await post('by-arguments')).headers.has('idempotency-key')).toBe(false);
  });

  it('[ID-23] tell a duplicate to retry after the usual duration of the operation', async () => {
    await start({ leaseMs: 60_000 });
    const duplicate = async (key: string, tookMs: number): Promise<string | null> => {
      let open!: () => void;
      gate = new Promise((resolve) => (open = resolve));
      const headers = { 'idempotency-key': key };
      const both = [post('orders', headers), post('orders', headers)];
      const refused = await Promise.race(both);
      expect(refused.status).toBe(409);
      setTimeout(open, tookMs);
      await Promise.all(both);
      return refused.headers.get('retry-after');
    };
    // Nothing is known of it yet.
    expect(await duplicate('a', 3_100)).toBe('1');
    const usual = Number(await duplicate('b', 0));
    expect(usual).toBeGreaterThanOrEqual(4);
    expect(usual).toBeLessThan(30);
    for (const key of ['c', 'd', 'e', 'f', 'g', 'h', 'i']) await post('orders', { 'idempotency-key': key });
    expect(Number(await duplicate('j', 0))).toBeLessThan(usual);
  });

  it.each<[string, NonNullable<AtomicRedisOptions['idempotency']>]>([
    ['an invalid name', { headers: { key: 'two words' } }],
    ['a name with a line break', { headers: { replayed: 'x\r\ny' } }],
    ['an unknown preset', { preset: 'paypal' as 'stripe' }],
    ['an unknown header', { headers: { other: 'x' } as object }],
    ['true for a mark', { headers: { replayed: true as false } }],
  ])('[ID-22] refuse %s', async (_, idempotency) => {
    await start();
    await expect(
      startApp(platform, { connection: redis.server.url, idempotency }, { controllers: [] }),
    ).rejects.toBeInstanceOf(InvalidArgumentError);
  });
});
