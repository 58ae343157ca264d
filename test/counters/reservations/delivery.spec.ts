import type { TestingModule } from '@nestjs/testing';
import {
  CounterLimitError,
  CounterService,
  OutcomeUnknownError,
  RedisUnavailableError,
  ReservationService,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useApp } from '../../support/app.js';
import { startCluster, type TestCluster } from '../../support/cluster.js';
import { useRedis } from '../../support/redis.js';
import { waitFor } from '../../support/wait-for.js';

const scripts = { match: ({ name }: { name: string }): boolean => name === 'EVALSHA' };
const LONG = { ttlMs: 600_000 };

describe('a reservation whose connection fails', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  /** Reaches Redis through the proxy. */
  let reservations: ReservationService;
  /** Another process, straight to Redis. */
  let others: ReservationService;
  let counters: CounterService;

  beforeEach(async () => {
    await redis.client.set('stock', 10);
    proxy = await startFaultProxy({ target: redis.server });
    const apps = await Promise.all([proxy.url, redis.server.url].map((connection) => boot({ connection })));
    [reservations, others] = apps.map((app) => app.get(ReservationService)) as [
      ReservationService,
      ReservationService,
    ];
    counters = apps[1]!.get(CounterService);
    await reservations.list('stock');
  });

  afterEach(() => proxy.stop());

  const stored = async (): Promise<number> => Number(await redis.client.get('stock'));

  /** Lets the next script through to Redis, which cannot answer until `meanwhile` is done. */
  const unanswered = async <T>(
    call: () => Promise<T>,
    done: () => Promise<boolean>,
    meanwhile: () => Promise<unknown>,
  ): Promise<T> => {
    const fault = proxy.loseReplies(scripts);
    proxy.refuseConnections(true);
    const settled = call();
    settled.catch(() => undefined);
    await waitFor('the script', done);
    await meanwhile();
    proxy.refuseConnections(false);
    await fault.triggered;
    return await settled;
  };

  it('[RS-4] holds once when the reply is lost, and returns the availability of that time', async () => {
    const hold = await unanswered(
      () => reservations.hold('stock', 3, LONG),
      async () => (await stored()) === 7,
      () => counters.add('stock', 100),
    );
    expect(hold).toMatchObject({ quantity: 3, available: 7 });
    expect(await stored()).toBe(107);
    expect(await others.list('stock')).toHaveLength(1);
    expect(await others.release(hold.id)).toBe(true);
    expect(await stored()).toBe(110);
  });

  it('[RS-4] refuses once too, even if a copy would find enough', async () => {
    const holding = unanswered(
      () => reservations.hold('stock', 11, LONG),
      async () => (await redis.client.keys('atomic:operation:*')).length === 1,
      () => counters.add('stock', 100),
    );
    await expect(holding).rejects.toThrow(CounterLimitError);
    expect(await stored()).toBe(110);
  });

  it.each<['confirm' | 'release', number]>([
    ['confirm', 7],
    ['release', 10],
  ])(
    '[RS-4] repeats the first answer to a %s that is sent again, and counts it once',
    async (action, left) => {
      const { id } = await others.hold('stock', 3, LONG);
      const settled = await unanswered(
        () => reservations[action](id),
        async () => (await others.list('stock')).length === 0,
        async () => {
          expect(await others.release(id)).toBe(false);
          expect(await others.confirm(id)).toBe(false);
        },
      );
      expect(settled).toBe(true);
      expect(await stored()).toBe(left);
    },
  );

  it('[RS-4] confirms a hold that expired afterwards, even if the reply came later', async () => {
    const { id } = await others.hold('stock', 3, { ttlMs: 2_000 });
    const confirmed = await unanswered(
      () => reservations.confirm(id),
      async () => (await others.list('stock')).length === 0,
      () => redis.client.del('stock'),
    );
    expect(confirmed).toBe(true);
  });

  it('[RS-4] changes nothing when a copy arrives late', async () => {
    const late = proxy.deliverLate(300, scripts);
    const { id } = await reservations.hold('stock', 3, LONG);
    await others.release(id);
    await late.delivered;
    expect(await stored()).toBe(10);
    const { id: another } = await others.hold('stock', 3, LONG);
    const lateRelease = proxy.deliverLate(300, scripts);
    expect(await reservations.release(another)).toBe(true);
    await lateRelease.delivered;
    expect(await stored()).toBe(10);
  });

  it('[RS-4] holds nothing after its time-out', async () => {
    const late = proxy.deliverLate(700, scripts);
    proxy.refuseConnections(true);
    await expect(reservations.hold('stock', 3, { ...LONG, timeoutMs: 200 })).rejects.toThrow(
      OutcomeUnknownError,
    );
    expect(await late.delivered).toBe(true);
    expect(await stored()).toBe(10);
  });

  it('[RS-4] takes back by itself a hold whose caller never got the reply', async () => {
    proxy.blackHole({ ...scripts, deliver: true });
    await expect(reservations.hold('stock', 3, { ttlMs: 400, timeoutMs: 200 })).rejects.toThrow(
      OutcomeUnknownError,
    );
    proxy.reset();
    await waitFor('the expiry', async () => (await others.available('stock')) === 10);
  });

  it('[RS-4] reports that nothing was done when nothing was sent', async () => {
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    const timeoutMs = 100;
    await waitFor('the loss', () =>
      reservations.list('stock', { timeoutMs }).then(
        () => false,
        () => true,
      ),
    );
    for (const call of [
      reservations.hold('stock', 1, { ...LONG, timeoutMs }),
      reservations.list('stock', { timeoutMs }),
      reservations.available('stock', { timeoutMs }),
    ])
      await expect(call).rejects.toThrow(RedisUnavailableError);
    expect(await stored()).toBe(10);
  });

  it('[RS-4] reports a lost reply as unknown without a marker, and sends nothing again', async () => {
    const fault = proxy.loseReplies(scripts);
    await expect(reservations.hold('stock', 3, { ...LONG, deduplicate: false })).rejects.toThrow(
      OutcomeUnknownError,
    );
    expect(fault.count).toBe(1);
    expect(await stored()).toBe(7);
    expect(await redis.client.keys('atomic:operation:*')).toEqual([]);
  });

  it('[RS-4] runs normally after SCRIPT FLUSH', async () => {
    await redis.client.script('FLUSH');
    const { id } = await reservations.hold('stock', 3, LONG);
    await redis.client.script('FLUSH');
    expect(await reservations.extend(id, 1_000_000)).toBe(true);
    await redis.client.script('FLUSH');
    expect(await reservations.list('stock')).toHaveLength(1);
    await redis.client.script('FLUSH');
    expect(await reservations.release(id)).toBe(true);
  });
});

describe('a reservation on a Cluster', () => {
  const boot = useApp();
  let cluster: TestCluster;
  let app: TestingModule;

  beforeAll(async () => {
    cluster = await startCluster({ masters: 2, replicasPerMaster: 0 });
    const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
    app = await boot({ connection: { nodes, options: { redisOptions: { keyPrefix: 'shop:' } } } });
  });

  afterAll(() => cluster?.stop());

  it.each(['plain', '{a}:stock', 'x{b}y', '{}z', 'a}b', 'a{b', 'ключ'])(
    '[RS-1] works for a counter named %j, in its slot',
    async (key) => {
      const reservations = app.get(ReservationService);
      await app.get(CounterService).add(key, 10);
      const { id } = await reservations.hold(key, 3, LONG);
      const other = await reservations.hold(key, 2, LONG);
      expect(await reservations.list(key)).toHaveLength(2);
      expect(await reservations.extend(id, 700_000)).toBe(true);
      expect(await reservations.release(id)).toBe(true);
      expect(await reservations.confirm(other.id)).toBe(true);
      expect(await reservations.available(key)).toBe(8);
    },
  );

  it('[RS-1] continues when the slot moves', async () => {
    const reservations = app.get(ReservationService);
    await app.get(CounterService).add('moving', 10);
    const { id } = await reservations.hold('moving', 3, LONG);
    const owner = await cluster.masterOf('shop:moving');
    await cluster.migrateSlot(
      'shop:moving',
      cluster.nodes.find((node) => node !== owner)!,
    );
    expect(await reservations.release(id)).toBe(true);
    expect(await reservations.available('moving')).toBe(10);
  });
});
