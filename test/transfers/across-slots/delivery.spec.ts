import type { TestingModule } from '@nestjs/testing';
import {
  UnsafeIntegerError,
  RedisUnavailableError,
  TransferPendingError,
  TransferService,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type Fault, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { RedisConnection } from '../../../lib/connection/redis-connection.js';
import { useApp } from '../../support/app.js';
import { useRedis } from '../../support/redis.js';
import { waitFor } from '../../support/wait-for.js';
import { left, STEPS, type Step } from './support.js';

/** A balance that no number can be added to and be exact. */
const FULL = String(Number.MAX_SAFE_INTEGER);

/** The script of one step of a transfer: its first copy. */
const only = (step: Step) => {
  let scripts = 0;
  const isScript = (name: string): boolean => name === 'EVALSHA' || name === 'EVAL';
  return {
    match: ({ name }: { name: string }): boolean =>
      isScript(name) && scripts++ === STEPS.indexOf(step as (typeof STEPS)[number]),
  };
};

describe('transfers across slots over connections that fail', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let transfers: TransferService;

  beforeAll(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: proxy.url, timeoutMs: 20_000 });
    transfers = app.get(TransferService);
  });

  beforeEach(async () => {
    proxy.reset();
    await waitFor('the connection is back', () => app.get(RedisConnection).isReady);
    // Warms up, so that each step is one script call.
    await redis.client.set('warm', 1);
    await transfers.acrossSlots({ from: 'warm', to: 'up', amount: 1 });
    await redis.client.mset('a', 100, 'b', 0, 'full', FULL);
  });

  afterAll(() => proxy.stop());

  const balances = async () => await redis.client.mget('a', 'b', 'full');
  const expectTidy = async (): Promise<void> => {
    expect(await transfers.pending({ from: 'a' })).toEqual({ transfers: [] });
    const { decisions, others } = await left(redis);
    expect(others).toEqual([]);
    expect(decisions.filter(({ ttlMs }) => ttlMs < 0)).toEqual([]);
  };

  describe.each(STEPS)('at %s', (step) => {
    it.each<[what: string, strike: () => Fault]>([
      ['the reply is lost', () => proxy.loseReplies(only(step))],
      ['the reply is cut', () => proxy.deliverPartOfReply(3, only(step))],
      ['the request is lost', () => proxy.cutBeforeServer(only(step))],
      ['the request arrives late, after its copy', () => proxy.deliverLate(300, only(step))],
    ])(
      '[TR-16] %s: the amount is moved or returned once, and the caller learns which',
      async (what, strike) => {
        for (const fits of [true, false]) {
          const fault = strike();
          const moving = transfers.acrossSlots({ from: 'a', to: fits ? 'b' : 'full', amount: 30 });
          if (fits) expect(await moving).toMatchObject({ from: 70, to: 30 });
          else await expect(moving).rejects.toThrow(UnsafeIntegerError);
          expect(fault.count).toBe(1);
          if (what.includes('late')) await (fault as ReturnType<FaultProxy['deliverLate']>).delivered;
          expect(await balances()).toEqual(['70', '30', FULL]);
          await transfers.recover({ from: 'a', minAgeMs: 0 });
          await expectTidy();
        }
      },
    );
  });

  it('[TR-16] are pending when the target does not answer in time, and its late request does nothing; recovery completes them', async () => {
    const late = proxy.deliverLate(3_500, only('decide'));
    void late.triggered.then(() => proxy.refuseConnections(true));
    const error = await transfers
      .acrossSlots({ from: 'a', to: 'b', amount: 30, reference: 'p-7' }, { timeoutMs: 2_000 })
      .catch((e: unknown) => e);
    expect(error).toMatchObject({
      constructor: TransferPendingError,
      code: 'TRANSFER_PENDING',
      outcome: 'unknown',
      retryable: false,
      transfer: { from: 'a', to: 'b', amount: 30, reference: 'p-7' },
    });
    expect(await late.delivered).toBe(true);
    expect(await balances()).toEqual(['70', '0', FULL]);
    proxy.refuseConnections(false);
    const { id } = (error as TransferPendingError).transfer;
    expect((await transfers.pending({ from: 'a' })).transfers).toMatchObject([
      { id, state: 'open', amount: 30 },
    ]);
    expect(await transfers.recover({ from: 'a', minAgeMs: 0 })).toMatchObject({ credited: 1, failed: 0 });
    expect(await balances()).toEqual(['70', '30', FULL]);
    await expectTidy();
  });

  it('[TR-16] may be pending when it is unknown whether they began, and recovery finds out', async () => {
    const lost = proxy.loseReplies(only('begin'));
    void lost.triggered.then(() => proxy.refuseConnections(true));
    const moving = transfers.acrossSlots({ from: 'a', to: 'b', amount: 30 }, { timeoutMs: 2_000 });
    const error = await moving.catch((e: unknown) => e);
    expect(error).toBeInstanceOf(TransferPendingError);
    expect((error as TransferPendingError).transfer).toEqual({ from: 'a', to: 'b', amount: 30 });
    proxy.refuseConnections(false);
    expect(await transfers.recover({ from: 'a', minAgeMs: 0 })).toMatchObject({ credited: 1 });
    expect(await balances()).toEqual(['70', '30', FULL]);
    await expectTidy();
  });

  it('[TR-16] are reported as paid in when the steps after the decision cannot be done in time', async () => {
    const cut = proxy.cutBeforeServer(only('close'));
    void cut.triggered.then(() => proxy.refuseConnections(true));
    const moving = transfers.acrossSlots({ from: 'a', to: 'b', amount: 30 }, { timeoutMs: 2_000 });
    expect(await moving).toMatchObject({ from: 70, to: 30 });
    proxy.refuseConnections(false);
    expect(await transfers.recover({ from: 'a', minAgeMs: 0 })).toMatchObject({ credited: 1 });
    expect(await balances()).toEqual(['70', '30', FULL]);
    await expectTidy();
  });

  it('[TR-16] are pending when the amount cannot be returned in time', async () => {
    const cut = proxy.cutBeforeServer(only('close'));
    void cut.triggered.then(() => proxy.refuseConnections(true));
    const moving = transfers.acrossSlots({ from: 'a', to: 'full', amount: 30 }, { timeoutMs: 2_000 });
    await expect(moving).rejects.toThrow(TransferPendingError);
    proxy.refuseConnections(false);
    expect(await transfers.recover({ from: 'a', minAgeMs: 0 })).toMatchObject({ refunded: 1 });
    expect(await balances()).toEqual(['100', '0', FULL]);
    await expectTidy();
  });

  it('[TR-16] are not applied when Redis was never reached', async () => {
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    await waitFor('the connection is gone', () => !app.get(RedisConnection).isReady);
    const moving = transfers.acrossSlots({ from: 'a', to: 'b', amount: 30 }, { timeoutMs: 300 });
    await expect(moving).rejects.toMatchObject({
      constructor: RedisUnavailableError,
      outcome: 'not-applied',
    });
    expect(await balances()).toEqual(['100', '0', FULL]);
  });
});
