import { setTimeout as sleep } from 'node:timers/promises';
import {
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
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { takeFree } from '../../lib/permits/acquire.operations.js';
import { CLAIM_MS } from '../../lib/permits/lua-permit.js';
import { release } from '../../lib/permits/permit.operations.js';
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
    it('[PM-1] gives a permit to one holder at a time, and to the next once it is released', async () => {
      const { permits } = await apps.start(redis.server.url);
      const other = (await apps.start(redis.server.url)).permits;
      const permit = await permits.acquire('p');
      expect(permit).toMatchObject({ name: 'p', slot: 0 });
      expect(permit.signal.aborted).toBe(false);
      expect(await other.tryAcquire('p')).toBeNull();
      expect(await other.tryAcquire('q')).not.toBeNull();
      expect(await permit.release()).toBe(true);
      expect(await permit.release()).toBe(true);
      expect(await other.tryAcquire('p')).toMatchObject({ slot: 0 });
    });

    it('[PM-1] holds as many at a time as the limit says, each in a slot of its own', async () => {
      const { permits } = await apps.start(redis.server.url);
      const held = await Promise.all([1, 2, 3].map(() => permits.acquire('p', { limit: 3 })));
      expect(new Set(held.map(({ slot }) => slot))).toEqual(new Set([0, 1, 2]));
      expect(await permits.tryAcquire('p', { limit: 3 })).toBeNull();
      const one = held.find(({ slot }) => slot === 1)!;
      await one.release();
      expect(await permits.tryAcquire('p', { limit: 3 })).toMatchObject({ slot: 1 });
    });

    it('[PM-2] gives each slot fences that rise, across release, expiry and a flush', async () => {
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

    it('[PM-5] renews a lease for as long as the permit is held', async () => {
      const { permits } = await apps.start(redis.server.url);
      const other = (await apps.start(redis.server.url)).permits;
      const permit = await permits.acquire('p', { leaseMs: LEASE_MS });
      const until = performance.now() + 2.5 * LEASE_MS;
      while (performance.now() < until) {
        expect(await other.tryAcquire('p')).toBeNull();
        await sleep(100);
      }
      expect(permit.signal.aborted).toBe(false);
      expect(await permit.release()).toBe(true);
    });

    it('[PM-5] aborts the signal of a permit that was lost, tells it by an event, and releases nothing of the next holder', async () => {
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

    it('[PM-5] tells by its release that a flush took a permit, whoever has it since', async () => {
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

    it('[PM-5] aborts the signal before the lease ends when Redis is not reached', async () => {
      const { permits } = await apps.start(proxy.url, { timeoutMs: 500 });
      const permit = await permits.acquire('p', { leaseMs: LEASE_MS });
      proxy.refuseConnections(true);
      proxy.disconnectAll();
      await waitFor('the loss', () => permit.signal.aborted);
      // By another connection: the lease goes on for a while.
      expect(await slotKeysOf(redis.client)).toHaveLength(1);
      proxy.refuseConnections(false);
    });

    it('[PM-1] leaves no key without a time to live', async () => {
      const { permits } = await apps.start(redis.server.url);
      const permit = await permits.acquire('p', { limit: 2 });
      const waiting = permits.acquire('p', { limit: 1, waitMs: 100 });
      await expect(waiting).rejects.toThrow(PermitUnavailableError);
      await permit.release();
      for (const key of await redis.client.keys('*')) expect(await redis.client.pttl(key)).toBeGreaterThan(0);
    });
  });

  describe('those that wait', () => {
    it('[PM-3] are woken and served in the order in which they came', async () => {
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

    it('[PM-3] come before those that ask later', async () => {
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

    it('[PM-3] hear what a release in their process hands them, also while they cannot subscribe', async () => {
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

    it('[PM-3] come before those that ask later when a lease has ended, too', async () => {
      const { permits } = await apps.start(redis.server.url);
      await permits.acquire('p');
      const waiting = permits.acquire('p', { waitMs: 60_000 });
      await waitFor('it to stand in line', async () => (await inLine(redis.client)) === 1);
      await endLeases();
      expect(await permits.tryAcquire('p')).toBeNull();
      expect(await (await waiting).release()).toBe(true);
    });

    it('[PM-3] get the permit of a holder that died, when its lease ends', async () => {
      const dying = await apps.start(redis.server.url);
      const { permits } = await apps.start(redis.server.url);
      await dying.permits.acquire('p', { leaseMs: LEASE_MS });
      dying.permits.close();
      const before = performance.now();
      const permit = await permits.acquire('p', { waitMs: 60_000 });
      expect(performance.now() - before).toBeLessThan(LEASE_MS + 3_000);
      expect(permit.slot).toBe(0);
    });

    it('[PM-3] that died hold up the next for a bounded time', async () => {
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

    it('[PM-3] are refused when their time is over, and leave the line', async () => {
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

    it('[PM-3] look at no slot while they stand further back, however long the line is', async () => {
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

    it('[PM-3] leave the line when their signal aborts', async () => {
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

  describe('lost replies', () => {
    it('[PM-4] to an acquisition leave one permit, which its caller has', async () => {
      const { permits } = await apps.start(proxy.url);
      const lost = proxy.loseReplies(isScript);
      const permit = await permits.acquire('p');
      expect(lost.count).toBe(1);
      const [key] = await slotKeysOf(redis.client);
      expect(await redis.client.pttl(key!)).toBeGreaterThan(0);
      expect(await permit.release()).toBe(true);
      expect(await slotKeysOf(redis.client)).toEqual([]);
    });

    it('[PM-4] to a release leave the permit with the next', async () => {
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

    it('[PM-4] to a release are told, however many had the permit since', async () => {
      const { permits } = await apps.start(proxy.url);
      const other = (await apps.start(redis.server.url)).permits;
      const releaseLate = async (permit: Permit, inTime = true): Promise<boolean> => {
        proxy.refuseConnections(true);
        const lost = proxy.loseReplies(isScript);
        const releasing = permit.release();
        await lost.triggered;
        if (!inTime) await releasing.catch(() => undefined);
        for (let i = 0; i < 3; i++) await other.withPermit('p', () => undefined);
        proxy.refuseConnections(false);
        return await releasing;
      };
      expect(await releaseLate(await permits.acquire('p'))).toBe(true);
      // Asked for again, after an answer that never came.
      const impatient = await permits.acquire('p', { timeoutMs: 1_500 });
      await expect(releaseLate(impatient, false)).rejects.toThrow(OutcomeUnknownError);
      await waitFor('the answer', () => impatient.release(), 10_000);
      const permit = await permits.acquire('p');
      await endLeases();
      expect(await releaseLate(permit)).toBe(false);
    });

    it('[PM-4] to a release only wake the one that has it since: its lease may be a short one', async () => {
      // Nobody is told by a message from this one: it may not publish.
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

    it('[PM-4] that come late as copies change nothing', async () => {
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

    it('[PM-4] leave nothing where a copy is refused and the call that it repeats comes later', async () => {
      const { permits } = await apps.start(proxy.url);
      await permits.withPermit('p', () => undefined);
      const late = proxy.deliverLate(400, isScript);
      const refused = proxy.answer('-OOM command not allowed\r\n', isScript);
      await expect(permits.tryAcquire('p', { timeoutMs: 2_000 })).rejects.toThrow(RedisUnavailableError);
      expect(refused.count).toBe(1);
      await late.delivered;
      // Long before a lease would end.
      await waitFor(
        'the permit to be free',
        async () => (await slotKeysOf(redis.client)).length === 0,
        10_000,
      );
    });

    it('[PM-4] leave notes of copies, which keep their originals from taking a permit, and end', async () => {
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

    it('[PM-4] leave nothing behind a caller that has given up', async () => {
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

  describe('work', () => {
    it('[PM-1] runs under a permit, which is released however it ends', async () => {
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

    it('[PM-1] gets its own result when the release cannot be made', async () => {
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
      const leading = permits.lead(
        'p',
        async ({ fence, signal }) => {
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
      expect(await slotKeysOf(redis.client)).toEqual([]);
    });

    it('[PM-9] leads again when the work finds the loss before the keeper does', async () => {
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

    it('[PM-9] does not begin to lead when its signal aborts as it gets the permit, and gives that back', async () => {
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

    it('[PM-9] leads once memory is there again; a full Redis hinders no release', async () => {
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
