import { setTimeout as sleep } from 'node:timers/promises';
import {
  type AtomicRedis,
  IllegalTransactionStateError,
  InvalidArgumentError,
  LeaseLostError,
  ModuleClosedError,
  OutcomeUnknownError,
  PermitUnavailableError,
  RedisUnavailableError,
  type AcquireOptions,
  type AtomicRedisEvent,
  type Permit,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy, type RedisCommand } from 'nestjs-atomic-redis/testing';
import { takeFree } from '../../lib/permits/take-free.operation.js';
import { CLAIM_MS } from '../../lib/permits/lua-permit.js';
import { release } from '../../lib/permits/permit.operations.js';
import { countCommands } from '../support/command-stats.js';
import { holdRequest } from '../support/hold-request.js';
import { isScript } from '../support/is-script.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { inLine, slotKeysOf, usePermitApps } from './permits-app.js';

const LEASE_MS = 3_000;

describe('PermitService', () => {
  const redis = useRedis();
  const apps = usePermitApps();
  let proxy: FaultProxy;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
  });
  afterEach(() => proxy.stop());

  /** Forgets who holds what, as if the leases had ended. */
  const endLeases = async (): Promise<void> => {
    await redis.client.del(...(await slotKeysOf(redis.client)));
  };

  const countOf = async (command: string): Promise<number> =>
    Number(
      new RegExp(`^cmdstat_${command}:calls=(\\d+)`, 'm').exec(
        await redis.client.info('commandstats'),
      )?.[1] ?? 0,
    );

  describe('holders', () => {
    it('[PM-1] have a permit one at a time, and the next gets it once it is released', async () => {
      const { permits } = await apps.start(redis.server.url);
      const other = (await apps.start(redis.server.url)).permits;
      const permit = await permits.acquire('p');
      expect(permit).toMatchObject({ name: 'p', slot: 0 });
      expect(permit.signal.aborted).toBe(false);
      expect(await other.tryAcquire('p')).toBeNull();
      const counts = await countCommands(redis.client, async () => {
        for (let i = 0; i < 10; i++) await other.tryAcquire('p');
      });
      // One call each, but for those that a machine that stands still sends again.
      expect(counts['evalsha']).toBeLessThan(20);
      expect(await other.tryAcquire('q')).not.toBeNull();
      expect(await permit.release()).toBe(true);
      expect(await permit.release()).toBe(true);
      expect(await other.tryAcquire('p')).toMatchObject({ slot: 0 });
    });

    it('[PM-1] are as many at a time as the limit, each in a slot of its own', async () => {
      const { permits } = await apps.start(redis.server.url);
      const held = await Promise.all([1, 2, 3].map(() => permits.acquire('p', { limit: 3 })));
      expect(new Set(held.map(({ slot }) => slot))).toEqual(new Set([0, 1, 2]));
      expect(await permits.tryAcquire('p', { limit: 3 })).toBeNull();
      const one = held.find(({ slot }) => slot === 1)!;
      await one.release();
      expect(await permits.tryAcquire('p', { limit: 3 })).toMatchObject({ slot: 1 });
    });

    it('[PM-2] get fences that rise within each slot, across release, expiry and a flush', async () => {
      const { permits } = await apps.start(redis.server.url);
      const fences: number[] = [];
      const take = async (): Promise<Permit> => {
        const permit = await permits.acquire('p');
        fences.push(permit.fence);
        return permit;
      };
      for (let i = 0; i < 5; i++) await (await take()).release();
      await take();
      await endLeases();
      await take();
      await redis.client.flushall();
      await take();
      // A clock that was set back: the last fence is ahead of the time.
      const [state] = await redis.client.keys('atomic:permits:*');
      const ahead = fences.at(-1)! + 3_600_000_000;
      await redis.client.hset(state!, 'f0', ahead);
      await endLeases();
      await take();
      expect(fences.at(-1)).toBe(ahead + 1);
      expect(fences).toEqual([...new Set(fences)].toSorted((a, b) => a - b));
      expect(fences.every(Number.isSafeInteger)).toBe(true);
    });

    it('[PM-5] keep a lease that is renewed for as long as they hold the permit', async () => {
      const { permits } = await apps.start(redis.server.url);
      const other = (await apps.start(redis.server.url)).permits;
      // Those that are due together are renewed by one call.
      const held = await Promise.all(
        ['p', 'q', 'r'].map((name) => permits.acquire(name, { leaseMs: LEASE_MS })),
      );
      const until = performance.now() + 2.5 * LEASE_MS;
      while (performance.now() < until) {
        for (const { name } of held) expect(await other.tryAcquire(name)).toBeNull();
        await sleep(100);
      }
      for (const permit of held) {
        expect(permit.signal.aborted).toBe(false);
        expect(await permit.release()).toBe(true);
      }
    });

    it('[PM-5] get an aborted signal and an event when they lose the permit, and release nothing of the next holder', async () => {
      const atomic = await apps.start(redis.server.url);
      const events: AtomicRedisEvent[] = [];
      atomic.events.subscribe((event) => events.push(event));
      const permit = await atomic.permits.acquire('p', { leaseMs: LEASE_MS });
      await endLeases();
      const next = await (await apps.start(redis.server.url)).permits.acquire('p');
      await waitFor('the loss', () => permit.signal.aborted);
      expect(permit.signal.reason).toBeInstanceOf(LeaseLostError);
      expect(await permit.release()).toBe(false);
      expect(await slotKeysOf(redis.client)).toHaveLength(1);
      expect(await next.release()).toBe(true);
      expect(events).toContainEqual(
        expect.objectContaining({ type: 'lease.lost', pattern: 'permits', error: 'LEASE_LOST' }),
      );
      expect(events).toContainEqual(expect.objectContaining({ type: 'permits.acquire', outcome: 'applied' }));
      expect(events).toContainEqual(
        expect.objectContaining({ type: 'permits.release', outcome: 'not-applied' }),
      );
    });

    it('[PM-5] learn by their release that a flush took the permit, whoever holds it since', async () => {
      const atomic = await apps.start(redis.server.url);
      const losses: AtomicRedisEvent[] = [];
      atomic.events.subscribe((event) => void (event.type === 'lease.lost' && losses.push(event)));
      const permit = await atomic.permits.acquire('p');
      await redis.client.flushall();
      const next = await (await apps.start(redis.server.url)).permits.acquire('p');
      expect(await permit.release()).toBe(false);
      expect(await permit.release()).toBe(false);
      expect(permit.signal.reason).toBeInstanceOf(LeaseLostError);
      expect(await next.release()).toBe(true);
      await waitFor('the event', () => losses.length > 0);
      expect(losses).toHaveLength(1);
    });

    it('[PM-5] get an aborted signal before the lease ends when Redis is unreachable', async () => {
      const { permits } = await apps.start(proxy.url, { timeoutMs: 500 });
      // Long enough for a sixth of it to outlast a machine that stalls.
      const permit = await permits.acquire('p', { leaseMs: 9_000 });
      proxy.refuseConnections(true);
      proxy.disconnectAll();
      await waitFor('the loss', () => permit.signal.aborted);
      // By another connection: the lease lasts for a while.
      expect(await slotKeysOf(redis.client)).toHaveLength(1);
      // Who would wait for others does not wait for Redis.
      await expect(permits.acquire('q', { waitMs: 600_000 })).rejects.toThrow(RedisUnavailableError);
      proxy.refuseConnections(false);
    });

    it('[PM-1] leave no key without a time to live', async () => {
      const { permits } = await apps.start(redis.server.url);
      const permit = await permits.acquire('p', { limit: 2 });
      const waiting = permits.acquire('p', { limit: 1, waitMs: 100 });
      await expect(waiting).rejects.toThrow(PermitUnavailableError);
      await permit.release();
      for (const key of await redis.client.keys('*')) expect(await redis.client.pttl(key)).toBeGreaterThan(0);
    });
  });

  describe('waiting callers', () => {
    it('[PM-3] are woken and served in the order of their calls', async () => {
      const { permits } = await apps.start(redis.server.url);
      const other = (await apps.start(redis.server.url)).permits;
      const first = await permits.acquire('p');
      const served: number[] = [];
      const waiting: Promise<void>[] = [];
      for (let i = 0; i < 10; i++) {
        const wait = async (): Promise<void> => {
          const permit = await (i % 2 ? permits : other).acquire('p', { waitMs: 60_000 });
          served.push(i);
          await permit.release();
        };
        waiting.push(wait());
        await waitFor('it to stand in line', async () => (await inLine(redis.client)) === i + 1);
      }
      const before = performance.now();
      await first.release();
      await Promise.all(waiting);
      expect(served).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
      // Each of those that looked by themselves would be up to a second late.
      expect(performance.now() - before).toBeLessThan(4_000);
    });

    it('[PM-3] come before later callers', async () => {
      const { permits } = await apps.start(redis.server.url);
      const first = await permits.acquire('p');
      const waiting = permits.acquire('p', { waitMs: 60_000 });
      await waitFor('it to stand in line', async () => (await inLine(redis.client)) === 1);
      await first.release();
      // Handed over, not merely free.
      expect(await slotKeysOf(redis.client)).toHaveLength(1);
      expect(await permits.tryAcquire('p')).toBeNull();
      expect(await (await waiting).release()).toBe(true);
    });

    it('[PM-3] learn about a release in their own process even if they cannot subscribe', async () => {
      const { permits } = await apps.start(redis.server.url);
      const { signals } = permits as unknown as { signals: { listen: () => Promise<never> } };
      let isSubscribing = false;
      signals.listen = () => {
        isSubscribing = true;
        return new Promise<never>(() => undefined);
      };
      const first = await permits.acquire('p');
      const waiting = permits.acquire('p', { waitMs: 60_000 });
      await waitFor('it to subscribe', () => isSubscribing);
      expect(await first.release()).toBe(true);
      expect(await (await waiting).release()).toBe(true);
    });

    it('[PM-3] come before later callers even after a lease has ended', async () => {
      const { permits } = await apps.start(redis.server.url);
      await permits.acquire('p');
      const waiting = permits.acquire('p', { waitMs: 60_000 });
      await waitFor('it to stand in line', async () => (await inLine(redis.client)) === 1);
      await endLeases();
      expect(await permits.tryAcquire('p')).toBeNull();
      expect(await (await waiting).release()).toBe(true);
    });

    it('[PM-3] get the permit of a dead holder when its lease ends', async () => {
      const dying = await apps.start(redis.server.url);
      const { permits } = await apps.start(redis.server.url);
      await dying.permits.acquire('p', { leaseMs: LEASE_MS });
      dying.permits.close();
      const before = performance.now();
      const permit = await permits.acquire('p', { waitMs: 60_000 });
      expect(performance.now() - before).toBeLessThan(LEASE_MS + 3_000);
      expect(permit.slot).toBe(0);
    });

    it('[PM-3] that died delay the next for a bounded time', async () => {
      const dying = await apps.start(proxy.url, { timeoutMs: 500 });
      const { permits } = await apps.start(redis.server.url);
      const first = await permits.acquire('p');
      const lost = Array.from({ length: 12 }, () => dying.permits.acquire('p', { waitMs: 60_000 }));
      for (const one of lost) one.catch(() => undefined);
      await waitFor('them to stand in line', async () => (await inLine(redis.client)) === 12);
      proxy.pause();
      const waiting = permits.acquire('p', { waitMs: 60_000 });
      await waitFor('the last to stand in line', async () => (await inLine(redis.client)) === 13);
      const before = performance.now();
      await first.release();
      await (await waiting).release();
      // Were each given its turn, it would be twelve seconds.
      expect(performance.now() - before).toBeLessThan(9_000);
      proxy.resume();
    });

    it('[PM-3] are refused at the end of their wait, and leave the queue', async () => {
      const { permits } = await apps.start(redis.server.url);
      const first = await permits.acquire('p', { leaseMs: LEASE_MS });
      const failure = await permits.acquire('p', { waitMs: 200 }).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(PermitUnavailableError);
      expect(failure).toMatchObject({ code: 'PERMIT_UNAVAILABLE', outcome: 'not-applied', retryable: true });
      const { retryAfterMs } = failure as PermitUnavailableError;
      expect(retryAfterMs).toBeGreaterThan(0);
      expect(retryAfterMs).toBeLessThanOrEqual(LEASE_MS);
      expect(await inLine(redis.client)).toBe(0);
      await first.release();
      expect(await permits.tryAcquire('p')).not.toBeNull();
    });

    it('[PM-3] check no slot while they are further back, however long the queue is', async () => {
      const { permits } = await apps.start(redis.server.url);
      const options = { limit: 20, leaseMs: 600_000 };
      await Promise.all(Array.from({ length: 20 }, () => permits.acquire('p', options)));
      const abort = new AbortController();
      const { signal } = abort;
      const waiting = Array.from({ length: 100 }, () =>
        permits.acquire('p', { ...options, waitMs: 600_000, signal }).catch((error: unknown) => error),
      );
      await waitFor('all to stand in line', async () => (await inLine(redis.client)) === 100);
      await waitFor('all to be woken', async () => (await countOf('zrank')) > 100);
      await redis.client.config('RESETSTAT');
      await waitFor('them to tell that they wait', async () => (await countOf('zrank')) > 250);
      expect(await countOf('mget')).toBeLessThan(100);
      abort.abort(new Error('enough'));
      expect(await Promise.all(waiting)).toEqual(waiting.map(() => signal.reason as Error));
    });

    it('[PM-3] leave the queue when their signal aborts', async () => {
      const { permits } = await apps.start(redis.server.url);
      await permits.acquire('p');
      const abort = new AbortController();
      const waiting = permits.acquire('p', { waitMs: 60_000, signal: abort.signal });
      await waitFor('it to stand in line', async () => (await inLine(redis.client)) === 1);
      const reason = new Error('enough');
      abort.abort(reason);
      await expect(waiting).rejects.toBe(reason);
      await waitFor('it to leave the line', async () => (await inLine(redis.client)) === 0);
      await expect(permits.acquire('p', { signal: abort.signal })).rejects.toBe(reason);
    });

    it('[PM-3] end with a ModuleClosedError when the module closes', async () => {
      const atomic = await apps.start(redis.server.url);
      await (await apps.start(redis.server.url)).permits.acquire('p');
      const waiting = atomic.permits.acquire('p', { waitMs: 60_000 });
      await waitFor('it to stand in line', async () => (await inLine(redis.client)) === 1);
      const closed = apps.close(atomic);
      await expect(waiting).rejects.toBeInstanceOf(ModuleClosedError);
      await closed;
      expect(await inLine(redis.client)).toBe(0);
    });
  });

  describe('the local queue of one process', () => {
    const GO_ON_MS = 20;
    /** None ends within a test by itself. */
    const ROW_LEASE_MS = 600_000;

    /** Lets callers stand in line, one behind the other; each notes that it was served. */
    const standInLine = async (
      callers: readonly { readonly permits: AtomicRedis['permits']; readonly options?: AcquireOptions }[],
      whileHeld: (permit: Permit, place: number) => unknown = () => undefined,
    ): Promise<{ served: number[]; fences: number[]; waiting: Promise<void>[] }> => {
      const [served, fences, waiting]: [number[], number[], Promise<void>[]] = [[], [], []];
      const before = await inLine(redis.client);
      for (const [place, { permits, options }] of callers.entries()) {
        const wait = async (): Promise<void> => {
          const permit = await permits.acquire('p', { waitMs: 60_000, leaseMs: ROW_LEASE_MS, ...options });
          served.push(place);
          fences.push(permit.fence);
          await whileHeld(permit, place);
          await permit.release();
        };
        waiting.push(wait());
        const count = before + place + 1;
        await waitFor('it to stand in line', async () => (await inLine(redis.client)) === count);
      }
      return { served, fences, waiting };
    };
    const rising = (numbers: readonly number[]): boolean =>
      numbers.every((n, i) => i === 0 || n > numbers[i - 1]!);
    const upTo = (end: number): number[] => Array.from({ length: end }, (_, i) => i);

    it('[PM-3] [PM-2] is served by few calls, in its order, with fences that rise', async () => {
      const { permits } = await apps.start(proxy.url);
      const first = await permits.acquire('p');
      // A clock that was set back: the last fence is ahead of the time.
      const ahead = first.fence + 3_600_000_000;
      await redis.client.hset('atomic:permits:{p}:p', 'f0', ahead);
      const { served, fences, waiting } = await standInLine(upTo(40).map(() => ({ permits })));
      let releases = 0;
      const isRelease = ({ name, args }: RedisCommand): boolean =>
        name === 'EVALSHA' && args[0]?.toString() === release.script.sha;
      proxy.delay({ match: (command) => isRelease(command) && ++releases < 0, times: Infinity });
      await first.release();
      await Promise.all(waiting);
      expect(served).toEqual(upTo(40));
      expect(rising([ahead, ...fences])).toBe(true);
      // A call for each would be 41.
      expect(releases).toBeGreaterThan(0);
      expect(releases).toBeLessThan(20);
      expect(await inLine(redis.client)).toBe(0);
      expect(await redis.client.hkeys('atomic:permits:{p}:p')).toEqual(['f0']);
      expect((await permits.acquire('p')).fence).toBeGreaterThan(fences.at(-1)!);
    });

    it('[PM-1] ends behind a permit that was renewed, because the renewal may arrive late', async () => {
      const { permits } = await apps.start(redis.server.url);
      const first = await permits.acquire('p');
      const tokens: (string | null)[] = [];
      const note = async (permit: Permit, place: number): Promise<void> => {
        tokens.push(await redis.client.get('atomic:permit-0:{p}:p'));
        const lease = permit as Permit & { readonly renewals: number };
        if (place === 1) await waitFor('a renewal', () => lease.renewals > 0);
      };
      const renewed = { permits, options: { leaseMs: 6_000 } };
      const { served, waiting } = await standInLine([renewed, renewed, renewed, renewed], note);
      await first.release();
      await Promise.all(waiting);
      expect(served).toEqual(upTo(4));
      expect(tokens[1]).toBe(tokens[0]);
      expect(tokens[2]).not.toBe(tokens[1]);
    });

    it('[PM-3] ends where a caller of another process, or one with another lease, stands between', async () => {
      const { permits } = await apps.start(redis.server.url);
      const other = (await apps.start(redis.server.url)).permits;
      const first = await permits.acquire('p');
      const short = { permits, options: { leaseMs: 20_000 } };
      const by = { permits };
      const line = [
        by,
        by,
        { permits: other },
        by,
        by,
        short,
        by,
        { permits: other },
        { permits: other },
        by,
      ];
      const { served, fences, waiting } = await standInLine(line);
      await first.release();
      await Promise.all(waiting);
      expect(served).toEqual(upTo(line.length));
      expect(rising(fences)).toBe(true);
    });

    it('[PM-6] [PM-7] lets no write of a caller that released land while the next holds the permit', async () => {
      const { permits, counters, values } = await apps.start(redis.server.url);
      const first = await permits.acquire('p');
      const held: Permit[] = [];
      const tokens: (string | null)[] = [];
      const { served, waiting } = await standInLine(
        [1, 2, 3, 4].map(() => ({ permits })),
        async (permit, place) => {
          held.push(permit);
          tokens.push(await redis.client.get('atomic:permit-0:{p}:p'));
          for (const earlier of [first, ...held.slice(0, -1)])
            await expect(values.getAndSet('k', 'stale', { permit: earlier })).rejects.toThrow(LeaseLostError);
          if (place >= 2) await counters.addAll([{ key: 'n', amount: 1 }], { permit });
        },
      );
      await first.release();
      await Promise.all(waiting);
      expect(served).toEqual(upTo(4));
      // The second got it within the process. What the third sent may be under way when it
      // releases.
      expect(tokens[1]).toBe(tokens[0]);
      expect(tokens[3]).not.toBe(tokens[2]);
      expect(await counters.get('n')).toBe(2);
      expect(await redis.client.exists('k')).toBe(0);
    });

    it('[PM-3] skips callers that give up, even as their turn comes', async () => {
      const { permits } = await apps.start(redis.server.url);
      const first = await permits.acquire('p');
      const giving = new AbortController();
      const atTurn = new AbortController();
      const given = { permits, options: { signal: giving.signal } };
      const line = [
        { permits },
        given,
        { permits },
        { permits, options: { signal: atTurn.signal } },
        { permits },
      ];
      const { served, waiting } = await standInLine(line, async (permit, place) => {
        if (place === 0) giving.abort(new Error('gave up'));
        await sleep(GO_ON_MS);
        if (place !== 2) return;
        // Handed over before the one that gives up has left.
        atTurn.abort(new Error('gave up'));
        void permit.release();
      });
      const ends = Promise.allSettled(waiting);
      await first.release();
      expect((await ends).map(({ status }) => status)).toEqual([
        'fulfilled',
        'rejected',
        'fulfilled',
        'rejected',
        'fulfilled',
      ]);
      expect(served).toEqual([0, 2, 4]);
      await waitFor('all to leave', async () => (await inLine(redis.client)) === 0);
      expect(await slotKeysOf(redis.client)).toEqual([]);
    });

    it('[PM-4] ends by a release whose reply is lost: every caller is served, and none twice', async () => {
      const { permits } = await apps.start(proxy.url);
      const first = await permits.acquire('p');
      const { served, fences, waiting } = await standInLine(upTo(20).map(() => ({ permits })));
      // One that tells who of its row has left.
      const endsRow = ({ name, args }: RedisCommand): boolean =>
        name === 'EVALSHA' && args[0]?.toString() === release.script.sha && args[6]!.toString().includes(',');
      const lost = proxy.loseReplies({ match: endsRow });
      await first.release();
      await Promise.all(waiting);
      expect(lost.count).toBeGreaterThan(0);
      expect(served).toEqual(upTo(20));
      expect(rising(fences)).toBe(true);
      await waitFor('all to leave', async () => (await inLine(redis.client)) === 0);
      expect(await slotKeysOf(redis.client)).toEqual([]);
    });

    it('[PM-3] continues in its order when its lease ends meanwhile', async () => {
      const { permits } = await apps.start(redis.server.url);
      const first = await permits.acquire('p');
      const { served, fences, waiting } = await standInLine(
        upTo(6).map(() => ({ permits })),
        async (permit, place) => {
          if (place !== 1) return;
          await endLeases();
          // The next check hands the permit to the first in line.
          expect(await permits.tryAcquire('p')).toBeNull();
          await expect(permit.release()).resolves.toEqual(expect.any(Boolean));
        },
      );
      await first.release();
      await Promise.all(waiting);
      expect(served).toEqual(upTo(6));
      expect(rising(fences)).toBe(true);
    });

    it('[PM-9] rejects its callers when the application shuts down, and leaves nothing behind', async () => {
      const app = await apps.start(redis.server.url);
      const other = (await apps.start(redis.server.url)).permits;
      const first = await app.permits.acquire('p');
      const { served, waiting } = await standInLine(upTo(5).map(() => ({ permits: app.permits })));
      const ends = Promise.allSettled(waiting);
      const closing = apps.close(app);
      await first.release().catch(() => undefined);
      await closing;
      for (const end of await ends)
        if (end.status === 'rejected') expect(end.reason).toBeInstanceOf(ModuleClosedError);
      expect(served.length).toBeLessThan(5);
      expect(await other.acquire('p', { waitMs: 60_000 })).toMatchObject({ slot: 0 });
    });
  });

  describe('lost replies', () => {
    it('[PM-4] of an acquisition leave one permit, held by its caller', async () => {
      const { permits } = await apps.start(proxy.url);
      const lost = proxy.loseReplies(isScript);
      const permit = await permits.acquire('p');
      expect(lost.count).toBe(1);
      const [key] = await slotKeysOf(redis.client);
      expect(await redis.client.pttl(key!)).toBeGreaterThan(0);
      expect(await permit.release()).toBe(true);
      expect(await slotKeysOf(redis.client)).toEqual([]);
    });

    it('[PM-4] of a release leave the permit with the next caller', async () => {
      const { permits } = await apps.start(proxy.url);
      const other = (await apps.start(redis.server.url)).permits;
      const permit = await permits.acquire('p');
      const waiting = other.acquire('p', { waitMs: 60_000 });
      await waitFor('it to stand in line', async () => (await inLine(redis.client)) === 1);
      const lost = proxy.loseReplies(isScript);
      expect(await permit.release()).toBe(true);
      expect(lost.count).toBe(1);
      expect((await waiting).signal.aborted).toBe(false);
    });

    it.each([1, 2])(
      '[PM-4] of a release are resolved, however many callers held one of %i since',
      async (limit) => {
        const { permits } = await apps.start(proxy.url);
        const other = (await apps.start(redis.server.url)).permits;
        const releaseLate = async (permit: Permit, inTime = true): Promise<boolean> => {
          proxy.refuseConnections(true);
          const lost = proxy.loseReplies(isScript);
          const releasing = permit.release();
          await lost.triggered;
          if (!inTime) await releasing.catch(() => undefined);
          for (let i = 0; i < 3; i++) await other.withPermit('p', () => undefined, { limit });
          proxy.refuseConnections(false);
          return await releasing;
        };
        expect(await releaseLate(await permits.acquire('p', { limit }))).toBe(true);
        // Asked for again, after an answer that never came.
        const impatient = await permits.acquire('p', { limit, timeoutMs: 1_500 });
        await expect(releaseLate(impatient, false)).rejects.toThrow(OutcomeUnknownError);
        await waitFor('the answer', () => impatient.release(), 10_000);
        const permit = await permits.acquire('p', { limit });
        await endLeases();
        expect(await releaseLate(permit)).toBe(false);
      },
    );

    it('[PM-4] of a release only wake the new holder, whose lease may be a short one', async () => {
      // No caller gets a message from this one: it may not publish.
      await redis.client.acl('SETUSER', 'mute', 'on', '>secret', '~*', 'resetchannels', '+@all');
      const { host, port } = redis.server;
      const { permits } = await apps.start(proxy.url);
      const other = (await apps.start({ host, port, username: 'mute', password: 'secret' })).permits;
      const first = await permits.acquire('p');
      const second = other.acquire('p', { waitMs: 60_000 });
      await waitFor('the second to stand in line', async () => (await inLine(redis.client)) === 1);
      const third = permits.acquire('p', { waitMs: 60_000 });
      await waitFor('the third to stand in line', async () => (await inLine(redis.client)) === 2);
      proxy.refuseConnections(true);
      const lost = proxy.loseReplies({
        match: ({ name, args }) => name === 'EVALSHA' && args[0]?.toString() === release.script.sha,
      });
      const releasing = first.release();
      await lost.triggered;
      await (await second).release();
      proxy.refuseConnections(false);
      expect(await releasing).toBe(true);
      expect(await third).toMatchObject({ slot: 0 });
      const [key] = await slotKeysOf(redis.client);
      expect(await redis.client.pttl(key!)).toBeGreaterThan(CLAIM_MS);
    });

    it('[PM-4] that arrive late as copies change nothing', async () => {
      const { permits } = await apps.start(proxy.url);
      const late = proxy.deliverLate(300, isScript);
      const first = await permits.acquire('p');
      await first.release();
      expect(await late.delivered).toBe(true);
      expect(await slotKeysOf(redis.client)).toEqual([]);
      const second = await permits.acquire('p');
      const lateRelease = proxy.deliverLate(300, isScript);
      await second.release();
      await permits.acquire('p');
      expect(await lateRelease.delivered).toBe(true);
      expect(await slotKeysOf(redis.client)).toHaveLength(1);
    });

    it('[PM-4] take one permit when a copy is refused and its original arrives later, and leave nothing', async () => {
      const { permits } = await apps.start(proxy.url);
      await permits.withPermit('p', () => undefined);
      const late = proxy.deliverLate(400, isScript);
      const refused = proxy.answer('-OOM command not allowed\r\n', isScript);
      const permit = await permits.tryAcquire('p', { timeoutMs: 20_000 });
      expect(refused.count).toBe(1);
      await late.delivered;
      expect(await slotKeysOf(redis.client)).toHaveLength(1);
      await permit!.release();
      // Long before a lease would end.
      await waitFor(
        'the permit to be free',
        async () => (await slotKeysOf(redis.client)).length === 0,
        10_000,
      );
    });

    it('[PM-4] leave notes of copies, which expire and keep their originals from taking a permit', async () => {
      const { script } = takeFree;
      const [state, slot] = ['atomic:permits:p', 'atomic:permit-0:p'];
      const send = (token: string, keepMarker: string): Promise<unknown> => {
        const args = [Date.now() + 60_000, keepMarker, token, 60_000];
        return redis.client.eval(script.lua, 2, state, slot, ...args);
      };
      expect([script.keys, script.args]).toEqual([
        ['state', 'slot'],
        ['notAfterMs', 'keepMarker', 'token', 'leaseMs'],
      ]);
      const sendAll = async (name: string): Promise<void> => {
        for (let i = 0; i < 20; i++)
          for (let copy = 0; copy < 2; copy++) expect(await send(`${name}${i}`, '1')).toBe('look');
        for (let i = 0; i < 20; i++) expect(await send(`${name}${i}`, '')).toBe('look');
      };
      await sendAll('early');
      const notes = await redis.client.hlen(state);
      // Their time limits pass.
      for (const [field, note] of Object.entries(await redis.client.hgetall(state)))
        if (field.startsWith('o')) await redis.client.hset(state, field, note.replace(/@.*/, '@1'));
      await sendAll('late');
      expect(await redis.client.hlen(state)).toBe(notes);
      for (const note of Object.values(await redis.client.hgetall(state)))
        expect(note.length).toBeLessThan(40);
      expect(await send('never sent again', '')).toMatch(/^\d+$/);
    });

    it('[PM-4] leave nothing behind when the caller has given up', async () => {
      const { permits } = await apps.start(proxy.url);
      const abort = new AbortController();
      const acquiring = holdRequest(proxy, isScript, async () => {
        abort.abort(new Error('enough'));
        await new Promise((resolve) => setImmediate(resolve));
      });
      await expect(permits.acquire('p', { signal: abort.signal })).rejects.toThrow('enough');
      await acquiring;
      await waitFor('the release', async () => {
        // Once it has arrived: the hash of fences tells.
        const keys = await redis.client.keys('atomic:permits:*');
        return keys.length > 0 && (await slotKeysOf(redis.client)).length === 0;
      });
    });
  });

  describe('work under a permit', () => {
    it('[PM-1] runs, and the permit is released however it ends', async () => {
      const { permits } = await apps.start(redis.server.url);
      const result = await permits.withPermit('p', async (permit) => {
        expect(permits.current()).toBe(permit);
        expect(await permits.tryAcquire('p')).toBeNull();
        return 'done';
      });
      expect(result).toBe('done');
      const error = new Error('of the work');
      await expect(permits.withPermit('p', () => Promise.reject(error))).rejects.toBe(error);
      expect(await slotKeysOf(redis.client)).toEqual([]);
      expect(() => permits.current()).toThrow(IllegalTransactionStateError);
    });

    it('[PM-1] returns its own result when the release fails', async () => {
      const { permits } = await apps.start(proxy.url, { timeoutMs: 300 });
      const result = await permits.withPermit('p', () => {
        proxy.refuseConnections(true);
        proxy.disconnectAll();
        return 'done';
      });
      expect(result).toBe('done');
      proxy.refuseConnections(false);
    });

    it('[PM-9] leads one at a time, and again after a loss', async () => {
      const { permits } = await apps.start(redis.server.url);
      const other = (await apps.start(redis.server.url)).permits;
      const terms: number[] = [];
      const stopped = new AbortController();
      const lives: number[] = [];
      const leading = permits.lead(
        'p',
        async ({ fence, signal }) => {
          lives.push(await redis.client.pttl('atomic:permit-0:{p}:p'));
          terms.push(fence);
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
          return 'stopped';
        },
        { leaseMs: LEASE_MS, signal: stopped.signal },
      );
      await waitFor('the first term', () => terms.length === 1);
      const second = other.lead('p', ({ fence }) => fence);
      await waitFor('the other to stand in line', async () => (await inLine(redis.client)) === 1);
      await endLeases();
      const fence = await second;
      await waitFor('the second term', () => terms.length === 2);
      expect(terms[0]).toBeLessThan(fence);
      expect(fence).toBeLessThan(terms[1]!);
      stopped.abort(new Error('enough'));
      expect(await leading).toBe('stopped');
      for (const ms of lives) expect(ms).toBeLessThanOrEqual(LEASE_MS);
      expect(await slotKeysOf(redis.client)).toEqual([]);
    });

    it('[PM-9] leads again when it finds the loss before the keeper does', async () => {
      const { permits, transactions } = await apps.start(redis.server.url);
      const other = (await apps.start(redis.server.url)).permits;
      let terms = 0;
      const term = async (permit: Permit): Promise<string> => {
        if (++terms === 3) return 'led';
        await redis.client.flushall();
        await other.withPermit('p', () => undefined);
        if (terms === 1) await transactions.run(['k'], (tx) => void tx.write.set('k', 1), { permit });
        return 'did not lead';
      };
      expect(await permits.lead('p', term)).toBe('led');
    });

    it('[PM-9] rejects with the error of the work that led', async () => {
      const { permits } = await apps.start(redis.server.url);
      const error = new Error('of the work');
      await expect(permits.lead('p', () => Promise.reject(error))).rejects.toBe(error);
    });

    it('[PM-9] does not start when its signal aborts as the permit arrives, and gives it back', async () => {
      const { permits } = await apps.start(redis.server.url);
      const stopped = new AbortController();
      const reason = new Error('enough');
      const taking = permits as unknown as { take: (...args: unknown[]) => Promise<Permit> };
      const take = taking.take.bind(permits);
      taking.take = async (...args) => {
        const permit = await take(...args);
        stopped.abort(reason);
        return permit;
      };
      let isLeading = false;
      const leading = permits.lead('p', () => void (isLeading = true), { signal: stopped.signal });
      await expect(leading).rejects.toBe(reason);
      expect(isLeading).toBe(false);
      expect(await slotKeysOf(redis.client)).toEqual([]);
    });

    it('[PM-9] leads once Redis has memory again, and a full Redis prevents no release', async () => {
      const atomic = await apps.start(redis.server.url);
      const permit = await atomic.permits.acquire('p');
      const events: AtomicRedisEvent[] = [];
      atomic.events.subscribe((event) => events.push(event));
      await redis.client.config('SET', 'maxmemory', 1);
      const leading = atomic.permits.lead('q', () => 'leads');
      try {
        await waitFor('refusals', () => events.filter(({ type }) => type === 'permits.acquire').length > 1);
        expect(await permit.release()).toBe(true);
      } finally {
        await redis.client.config('SET', 'maxmemory', 0);
      }
      expect(await leading).toBe('leads');
      expect(await slotKeysOf(redis.client)).toEqual([]);
    });

    it('[PM-9] asks again for as long as Redis is away, each time for as long as the call says', async () => {
      const atomic = await apps.start(proxy.url, { timeoutMs: 600_000 });
      await atomic.permits.withPermit('p', () => undefined);
      const events: AtomicRedisEvent[] = [];
      atomic.events.subscribe((event) => events.push(event));
      proxy.refuseConnections(true);
      proxy.disconnectAll();
      const leading = atomic.permits.lead('p', () => 'leads', { timeoutMs: 200 });
      await waitFor('two failures', () => events.filter(({ type }) => type === 'permits.acquire').length > 1);
      proxy.refuseConnections(false);
      expect(await leading).toBe('leads');
    });

    it('[PM-9] hands over at once when its application shuts down', async () => {
      const leaving = await apps.start(redis.server.url, { shutdownTimeoutMs: 10_000 });
      const { permits } = await apps.start(redis.server.url);
      let isLeading = false;
      const first = leaving.permits.lead('p', async ({ signal }) => {
        isLeading = true;
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      });
      await waitFor('the first to lead', () => isLeading);
      const second = permits.lead('p', () => 'leads');
      await waitFor('the second to stand in line', async () => (await inLine(redis.client)) === 1);
      const before = performance.now();
      await apps.close(leaving);
      await first;
      expect(await second).toBe('leads');
      expect(performance.now() - before).toBeLessThan(8_000);
    });
  });

  it('[PM-1] refuses wrong arguments before any command, and acquires nothing inside a transaction', async () => {
    const { permits, transactions } = await apps.start(redis.server.url);
    for (const [name, options] of [
      ['', {}],
      ['p', { limit: 0 }],
      ['p', { limit: 1_001 }],
      ['p', { leaseMs: 99 }],
      ['p', { waitMs: -1 }],
      ['p', { wait: 1 }],
    ] as const)
      await expect(permits.acquire(name, options as AcquireOptions)).rejects.toThrow(InvalidArgumentError);
    await expect(transactions.run(['k'], () => permits.acquire('p'))).rejects.toThrow(
      IllegalTransactionStateError,
    );
    expect(await redis.client.keys('atomic:permit*')).toEqual([]);
  });
});
