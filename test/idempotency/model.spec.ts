import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestingModule } from '@nestjs/testing';
import { IdempotencyService, type IdempotentRun } from 'nestjs-atomic-redis';
import { fc } from '../support/property.js';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { claimScript } from '../../lib/idempotency/claim.script.js';
import { completeScript } from '../../lib/idempotency/complete.script.js';
import { completion, runningRecord } from '../../lib/idempotency/record-text.js';
import { releaseScript } from '../../lib/idempotency/release.script.js';
import { renewScript } from '../../lib/idempotency/renew.script.js';
import { Deadline } from '../../lib/runtime/deadline.js';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { ScriptRunner } from '../../lib/scripting/script-runner.js';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { readRecord } from '../support/idempotency-record.js';

const ACTORS = 3;
const LEASE_MS = 60_000;
const TTL_MS = 600_000;

type Step =
  | { op: 'claim'; actor: number; fingerprint: string }
  | { op: 'renew' | 'complete' | 'release'; actor: number }
  | { op: 'expire' };

const actor = fc.nat({ max: ACTORS - 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('claim'),
      actor,
      fingerprint: fc.constantFrom('c:x', 'c:x', 'c:y', 'd:x', ':x'),
    }),
  },
  { weight: 6, arbitrary: fc.record({ op: fc.constantFrom('renew', 'complete', 'release'), actor }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('expire') }) },
);

interface Attempt {
  token: string;
  fingerprint: string;
}

/**
 * The expected record: the owner's, or none. A released record is free for all but its owner, whose
 * run is over.
 */
type Model = (Attempt & { state: 'running' | 'done' | 'released' }) | undefined;

interface Move {
  workMs: number;
  /** From here on, until the work ends, Redis is out of reach. */
  cutAtMs: number | null;
  fails: boolean;
}

/** From the beginning of a run to its end, or to the loss of its key. */
interface Interval {
  from: number;
  to: number;
}

describe('the lease of a key, against a model', () => {
  const boot = useApp();
  const redis = useRedis();
  const apps: TestingModule[] = [];
  let proxies: FaultProxy[] = [];

  const start = async (url: string): Promise<TestingModule> => {
    const app = await boot({ connection: url, timeoutMs: 2_000 });
    apps.push(app);
    return app;
  };

  afterEach(async () => {
    for (const proxy of proxies) proxy.reset();
    await Promise.all(apps.splice(0).map((app) => app.close()));
    await Promise.all(proxies.map((proxy) => proxy.stop()));
    proxies = [];
  });

  it('[ID-8] [ID-4] in any order of 3 actors’ steps, one owns the key, and its completed result stays', async () => {
    const app = await start(redis.server.url);
    const scripts = new ScriptRunner(app.get(RedisConnection));
    const record = 'record';
    const send = {
      claim: (owner: Attempt) =>
        scripts.run(
          claimScript,
          { record },
          { running: runningRecord(owner), leaseMs: LEASE_MS, wantsTtl: '' },
          Deadline.in(5_000),
        ),
      renew: async ({ token, fingerprint }: Attempt) => {
        const keys = { index: 'index', records: [record] };
        const args = { leases: [token, fingerprint, LEASE_MS, ''] };
        const [renewal] = await scripts.run(renewScript, keys, args, Deadline.in(5_000));
        return renewal === 'renewed';
      },
      complete: async (owner: Attempt) => {
        const args = completion(owner, { kind: 'value', bytes: `"${owner.token}"` }, TTL_MS);
        return (await scripts.run(completeScript, { record }, args, Deadline.in(5_000))) === 'completed';
      },
      release: async ({ token }: Attempt) =>
        (await scripts.run(
          releaseScript,
          { record },
          { token, memoryMs: LEASE_MS, hasRun: 1 },
          Deadline.in(5_000),
        )) === 'released',
    };

    const expectClaimed = async (model: Model, attempt: Attempt): Promise<Model> => {
      const reply = await send.claim(attempt);
      if (!model || model.state === 'released') {
        expect(reply).toEqual({ kind: 'claimed' });
        return { ...attempt, state: 'running' };
      }
      const callerOf = (fingerprint: string): string => fingerprint.split(':')[0]!;
      const { state, fingerprint } = model;
      // The store judges whose result it is.
      if (state === 'done')
        expect(reply).toMatchObject({ kind: state, fingerprint, result: Buffer.from(`"${model.token}"`) });
      else if (callerOf(fingerprint) !== callerOf(attempt.fingerprint))
        expect(reply).toEqual({ kind: 'caller' });
      else if (fingerprint !== attempt.fingerprint) expect(reply).toEqual({ kind: 'mismatch' });
      else expect(reply).toMatchObject({ kind: 'running' });
      return model;
    };

    /** By the last attempt of an actor, even if it does not know that it has the key. */
    const expectEnded = async (
      model: Model,
      op: 'renew' | 'complete' | 'release',
      attempt: Attempt,
    ): Promise<Model> => {
      const done = await send[op](attempt);
      const isOwner = !model || model.token === attempt.token;
      if (model?.state === 'released') {
        // Its owner's run is over, which may be repeated; a result is stored if no other call took
        // the key meanwhile.
        expect(done).toBe((op === 'release' && isOwner) || (op === 'complete' && !isOwner));
        return op === 'complete' && !isOwner ? { ...attempt, state: 'done' } : model;
      }
      const isDone = model?.state === 'done';
      expect(done).toBe(op === 'release' ? isOwner && !isDone : isOwner);
      if (!isOwner || isDone) return model;
      if (op === 'release') return { token: attempt.token, fingerprint: '', state: 'released' };
      return { ...attempt, state: op === 'renew' ? 'running' : 'done' };
    };

    const expectRecord = async (model: Model): Promise<void> => {
      const [fields, ttlMs] = await Promise.all([
        readRecord(redis.client, record),
        redis.client.pttl(record),
      ]);
      if (!model) return expect(fields).toBeUndefined();
      expect(fields).toMatchObject({ version: '1', ...model });
      expect(fields!.result).toBe(model.state === 'done' ? `"${model.token}"` : '');
      const full = model.state === 'done' ? TTL_MS : LEASE_MS;
      expect(ttlMs).toBeGreaterThan(full - 30_000);
      expect(ttlMs).toBeLessThanOrEqual(full);
    };

    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        await redis.client.del(record);
        let model: Model;
        let claims = 0;
        const attempts: (Attempt | undefined)[] = [];
        for (const one of steps) {
          if (one.op === 'expire') {
            // Only a lease can end here: a result would have to outlive everything else.
            if (model?.state === 'done') continue;
            await redis.client.del(record);
            model = undefined;
          } else if (one.op === 'claim') {
            const attempt = { token: `token ${++claims}`, fingerprint: one.fingerprint };
            attempts[one.actor] = attempt;
            model = await expectClaimed(model, attempt);
          } else {
            const attempt = attempts[one.actor];
            if (attempt) model = await expectEnded(model, one.op, attempt);
          }
          await expectRecord(model);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('[ID-8] with real leases and real partitions, at most one signal is unaborted at a time, and a result stays', async () => {
    const leaseMs = 300;
    const started = await Promise.all(
      Array.from({ length: ACTORS }, async () => {
        const proxy = await startFaultProxy({ target: redis.server });
        proxies.push(proxy);
        return { proxy, idempotency: (await start(proxy.url)).get(IdempotencyService) };
      }),
    );
    // A delay of this process also delays its timers and signals.
    const stalls = monitorEventLoopDelay({ resolution: 5 });
    stalls.enable();
    let keys = 0;
    let cuts = 0;

    /**
     * Calls until there is a result. Each run takes the next move, and after the last one a result
     * is quick to come.
     */
    const act = async (key: string, index: number, moves: Move[], valid: Interval[]): Promise<void> => {
      const { proxy, idempotency } = started[index]!;
      const work = async ({ signal }: IdempotentRun): Promise<string> => {
        const mine = { from: performance.now(), to: Infinity };
        valid.push(mine);
        signal.addEventListener('abort', () => (mine.to = performance.now()));
        const { workMs, cutAtMs, fails } = moves.shift() ?? { workMs: 0, cutAtMs: null, fails: false };
        await sleep(cutAtMs ?? 0);
        if (cutAtMs !== null) {
          cuts++;
          proxy.refuseConnections(true);
          proxy.disconnectAll();
        }
        await sleep(workMs);
        proxy.refuseConnections(false);
        mine.to = Math.min(mine.to, performance.now());
        if (fails) throw new Error('gives the key back');
        return `by ${index}`;
      };
      // In flight, out of reach, and failed as told: called again.
      await waitFor('a result', () => idempotency.run(key, work, { leaseMs }));
    };

    const move = fc.record({
      workMs: fc.integer({ min: 0, max: 3 * leaseMs }),
      cutAtMs: fc.option(fc.nat(leaseMs)),
      fails: fc.boolean(),
    });
    const outOfReach: Move = { workMs: 2 * leaseMs, cutAtMs: leaseMs / 2, fails: true };
    const moves = fc.array(move, { minLength: 3, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(fc.tuple(moves, moves, moves), async (perActor) => {
        const key = `key ${++keys}`;
        const valid: Interval[] = [];
        stalls.reset();
        await Promise.all(perActor.map((of, index) => act(key, index, [...of], valid)));
        valid.sort((a, b) => a.from - b.from);
        for (const [i, { to }] of valid.entries())
          for (const later of valid.slice(i + 1))
            expect(to - later.from).toBeLessThanOrEqual(stalls.max / 1e6);
        const read = ({ idempotency }: (typeof started)[number]): Promise<string> =>
          waitFor('a result', () => idempotency.run(key, () => 'nobody had a result'));
        const first = await read(started[0]!);
        expect(await Promise.all(started.map(read))).toEqual(started.map(() => first));
      }),
      { numRuns: 3, endOnFailure: true, examples: [[[[outOfReach], [outOfReach], [outOfReach]]]] },
    );
    stalls.disable();
    expect(cuts).toBeGreaterThan(0);
  });
});
