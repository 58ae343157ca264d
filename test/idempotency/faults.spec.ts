import { Controller, Post, type INestApplication } from '@nestjs/common';
import { Idempotent, IdempotencyService, RedisUnavailableError } from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { claimScript } from '../../lib/idempotency/claim.script.js';
import { completeScript } from '../../lib/idempotency/complete.script.js';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { on } from './support.js';
import { stateOf } from '../support/idempotency-record.js';

let runs = 0;

@Controller()
class Orders {
  @Post('orders')
  @Idempotent()
  create(): object {
    return { run: ++runs };
  }
}

describe('an idempotent run whose connection fails', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: INestApplication;
  let idempotency: IdempotencyService;

  beforeEach(async () => {
    runs = 0;
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot.http({ connection: proxy.url }, { controllers: [Orders] });
    idempotency = app.get(IdempotencyService);
    await idempotency.run('warm-up', () => 1);
  });

  afterEach(() => proxy.stop());

  const run = (): Promise<number> => idempotency.run('k', () => ++runs);

  it('[ID-10] recognises its own claim when the reply was lost, and runs once', async () => {
    const fault = proxy.loseReplies(on(claimScript));
    await expect(run()).resolves.toBe(1);
    expect(fault.count).toBe(1);
    await expect(run()).resolves.toBe(1);
  });

  it('[ID-10] runs once when the claim was cut off before it reached Redis', async () => {
    proxy.cutBeforeServer(on(claimScript));
    await expect(run()).resolves.toBe(1);
    await expect(run()).resolves.toBe(1);
  });

  it('[ID-10] keeps the result when the reply to its completion was lost', async () => {
    const fault = proxy.loseReplies(on(completeScript));
    await expect(run()).resolves.toBe(1);
    expect(fault.count).toBe(1);
    await expect(run()).resolves.toBe(1);
  });

  it('[ID-10] keeps the result when its completion never reached Redis', async () => {
    const fault = proxy.cutBeforeServer(on(completeScript));
    await expect(run()).resolves.toBe(1);
    expect(fault.count).toBe(1);
    await expect(run()).resolves.toBe(1);
  });

  it('[ID-10] returns the result while Redis is away at completion, and stores it when Redis returns within the lease', async () => {
    const result = await idempotency.run('k', () => {
      proxy.refuseConnections(true);
      proxy.disconnectAll();
      return ++runs;
    });
    expect(result).toBe(1);
    proxy.refuseConnections(false);
    for (;;) {
      const records = await redis.client.keys('atomic:idempotency:*');
      const states = await Promise.all(records.map((record) => stateOf(redis.client, record)));
      if (!states.includes('running')) break;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await expect(run()).resolves.toBe(1);
  });

  it('[ID-10] runs nothing when Redis is away, within the idempotency time-out', async () => {
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    const startedAt = performance.now();
    await expect(run()).rejects.toThrow(RedisUnavailableError);
    // A claim has a time of its own; other operations have five seconds.
    expect(performance.now() - startedAt).toBeLessThan(4_500);
    expect(runs).toBe(0);
  });

  it('[ID-10] answers 503 with Retry-After over HTTP when Redis does not answer, and runs nothing', async () => {
    // Neither on this connection nor on a new one.
    proxy.pause();
    const response = await fetch(`${await app.getUrl()}/orders`, {
      method: 'POST',
      headers: { 'idempotency-key': 'k' },
    }).finally(() => proxy.resume());
    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toBe('1');
    expect(response.headers.get('content-type')).toContain('application/problem+json');
    expect(runs).toBe(0);
  });

  it('[ID-10] gives back a claim that was applied after its caller had given up', async () => {
    const fault = proxy.blackHole({ ...on(claimScript), deliver: true });
    // It would find another connection in time.
    proxy.refuseConnections(true);
    await expect(run()).rejects.toThrow(RedisUnavailableError);
    proxy.refuseConnections(false);
    expect(runs).toBe(0);
    expect(fault.count).toBe(1);
    await waitFor('the claim to be given back', async () => {
      const records = await redis.client.keys('atomic:idempotency:*');
      const states = await Promise.all(records.map((record) => stateOf(redis.client, record)));
      return states.includes('released') && !states.includes('running');
    });
    await expect(idempotency.run('k', () => ++runs, { timeoutMs: 10_000 })).resolves.toBe(1);
  });
});
