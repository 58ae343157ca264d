import { Body, Controller, Post } from '@nestjs/common';
import { AtomicCounter, CounterValue, Idempotent, type CounterResult } from 'nestjs-atomic-redis';
import { PLATFORMS, send, startApp, type HttpApp } from '../idempotency/http-app.js';
import { AWKWARD_KEYS } from '../support/awkward-keys.js';
import { gate } from '../idempotency/support.js';
import { targetOfEnvironment, useTarget } from '../support/target.js';

let runs = 0;
let arrived = gate();
let opened = gate();

@Controller()
class Orders {
  @Post('orders')
  @Idempotent({ operation: 'orders.create' })
  create(@Body() order: object) {
    return { id: ++runs, order };
  }

  @Post('slow')
  @Idempotent({ operation: 'orders.slow', onDuplicate: 'wait' })
  async slow() {
    arrived.resolve();
    await opened.promise;
    return { id: ++runs };
  }

  @Post('stock')
  @Idempotent({ operation: 'stock.take' })
  @AtomicCounter({ key: () => 'app:{stock}', by: -1, min: 0 })
  async take(@CounterValue() counted?: CounterResult) {
    return { left: counted?.value };
  }
}

describe.each(PLATFORMS)('idempotent requests on %s', (platform) => {
  const target = useTarget(targetOfEnvironment(), { asUser: true, replicasPerMaster: 1 });
  let http: HttpApp;

  beforeAll(async () => {
    http = await startApp(platform, { connection: target.connection() }, { controllers: [Orders] });
  });
  afterAll(() => http?.app.close());

  it('[SRV-1] a repeated request gets the first response, and one with another payload is refused', async () => {
    const first = await send(http, '/orders', { body: { sku: 'tea' } });
    expect(first).toMatchObject({ status: 201, replayed: false });
    expect(await send(http, '/orders', { body: { sku: 'tea' } })).toEqual({ ...first, replayed: true });
    expect(await send(http, '/orders', { body: { sku: 'milk' } })).toMatchObject({ status: 422 });
  });

  it('[SRV-1] a waiting duplicate gets the first response', async () => {
    [arrived, opened] = [gate(), gate()];
    const first = send(http, '/slow');
    await arrived.promise;
    const others = [send(http, '/slow'), send(http, '/slow')];
    opened.resolve();
    const { body } = await first;
    for (const other of await Promise.all(others)) expect(other).toMatchObject({ body, replayed: true });
  });

  it('[SRV-1] a rate-limited request is counted once', async () => {
    await target.client.set('app:{stock}', '1');
    const first = await send(http, '/stock');
    expect(first).toMatchObject({ status: 201, body: '{"left":0}' });
    expect(await send(http, '/stock')).toEqual({ ...first, replayed: true });
    expect(await send(http, '/stock', { headers: { 'idempotency-key': 'other' } })).toMatchObject({
      status: 409,
    });
    expect(await target.client.get('app:{stock}')).toBe('0');
  });

  it('[SRV-2] (I13) keys of every kind that a header can carry are accepted', async () => {
    const keys = AWKWARD_KEYS.filter((key) => /^[\x21-\x7e]{1,200}$/.test(key));
    expect(keys.length).toBeGreaterThan(5);
    for (const key of keys) {
      const headers = { 'idempotency-key': key };
      const first = await send(http, '/orders', { headers });
      expect(first.status).toBe(201);
      expect(await send(http, '/orders', { headers })).toEqual({ ...first, replayed: true });
    }
    const stored = (await Promise.all((await target.masters()).map((node) => node.keys('*')))).flat();
    expect(stored).toHaveLength(keys.length);
    for (const name of stored) expect(name).toMatch(/^atomic:[\w:-]+$/);
  });
});
