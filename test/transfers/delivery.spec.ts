import type { TestingModule } from '@nestjs/testing';
import {
  InsufficientFundsError,
  OutcomeUnknownError,
  RedisUnavailableError,
  TransferService,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const scripts = { match: ({ name }: { name: string }): boolean => name === 'EVALSHA' || name === 'EVAL' };

describe('transfers over connections that fail', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let transfers: TransferService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: proxy.url });
    transfers = app.get(TransferService);
    await redis.client.mset('a', 100, 'b', 0);
  });

  afterEach(() => proxy.stop());

  const leg = { from: 'a', to: 'b', amount: 30 };
  const balances = async () => (await redis.client.mget('a', 'b')).map(Number);

  it('[TR-10] move once when the reply is lost, and the caller gets that first answer', async () => {
    const lost = proxy.loseReplies(scripts);
    proxy.refuseConnections(true);
    const moving = transfers.transfer(leg, { audit: { log: 'log' }, timeoutMs: 20_000 });
    await waitFor('the transfer was made', async () => (await balances())[0] === 70);
    // Changes the balances before the copy arrives.
    await redis.client.mset('a', 1, 'b', 1);
    proxy.refuseConnections(false);
    expect(await moving).toEqual({ from: 70, to: 30 });
    expect(lost.count).toBe(1);
    expect(await balances()).toEqual([1, 1]);
    expect(await redis.client.xlen('log')).toBe(1);
  });

  it('[TR-10] are refused once too: a copy does not move a later deposit', async () => {
    proxy.loseReplies(scripts);
    proxy.refuseConnections(true);
    const moving = transfers
      .transfer({ ...leg, amount: 101 }, { timeoutMs: 20_000 })
      .catch((e: unknown) => e);
    await waitFor('it was refused', async () => (await redis.client.keys('atomic:operation:*')).length > 0);
    await redis.client.set('a', 1_000);
    proxy.refuseConnections(false);
    expect(await moving).toBeInstanceOf(InsufficientFundsError);
    expect(await balances()).toEqual([1_000, 0]);
  });

  it('[TR-10] move once when the connection is cut before the server saw the call', async () => {
    proxy.cutBeforeServer(scripts);
    expect(await transfers.transfer(leg)).toEqual({ from: 70, to: 30 });
    expect(await balances()).toEqual([70, 30]);
  });

  it('[TR-10] do nothing when a copy arrives after the answer', async () => {
    const late = proxy.deliverLate(300, scripts);
    expect(await transfers.transfer(leg)).toEqual({ from: 70, to: 30 });
    await redis.client.mset('a', 500, 'b', 500);
    expect(await late.delivered).toBe(true);
    expect(await balances()).toEqual([500, 500]);
  });

  it('[TR-10] do nothing when they arrive after their time-out, with a marker and without', async () => {
    for (const marker of [true, false]) {
      const late = proxy.deliverLate(800, scripts);
      void late.triggered.then(() => proxy.refuseConnections(true));
      await expect(transfers.transfer(leg, { timeoutMs: 300, deduplicate: marker })).rejects.toThrow(
        OutcomeUnknownError,
      );
      expect(await late.delivered).toBe(true);
      expect(await balances()).toEqual([100, 0]);
      proxy.refuseConnections(false);
      await waitFor('the connection is back', () => app.get(RedisConnection).isReady);
    }
  });

  it('[TR-10] report a lost reply as unknown at once without a marker, and are not sent again', async () => {
    proxy.loseReplies(scripts);
    await expect(transfers.transfer(leg, { deduplicate: false })).rejects.toMatchObject({
      constructor: OutcomeUnknownError,
      outcome: 'unknown',
      retryable: false,
    });
    expect(await balances()).toEqual([70, 30]);
    expect(await redis.client.keys('atomic:*')).toEqual([]);
  });

  it('[TR-10] are not applied when Redis was never reached', async () => {
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    await waitFor('the connection is gone', () => !app.get(RedisConnection).isReady);
    await expect(transfers.transfer(leg, { timeoutMs: 300 })).rejects.toMatchObject({
      constructor: RedisUnavailableError,
      outcome: 'not-applied',
    });
    expect(await balances()).toEqual([100, 0]);
  });
});
