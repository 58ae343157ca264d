import type { TestingModule } from '@nestjs/testing';
import { Redis } from 'ioredis';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { claimScript } from '../../lib/idempotency/claim.script.js';
import { completeScript } from '../../lib/idempotency/complete.script.js';
import { committedRecord, completion, ownerOf, runningRecord } from '../../lib/idempotency/record-text.js';
import { releaseScript } from '../../lib/idempotency/release.script.js';
import { ResultSealer } from '../../lib/idempotency/result-sealer.js';
import type { RunTrace } from '../../lib/idempotency/run-trace.js';
import { StepsOwner, StepStore } from '../../lib/idempotency/steps/step-store.js';
import { unmarkStepScript } from '../../lib/idempotency/steps/unmark-step.script.js';
import { Deadline } from '../../lib/runtime/deadline.js';
import { ScriptRunner } from '../../lib/scripting/script-runner.js';
import { ARMED } from '../../lib/transactions/commit-marker.js';
import { resolveScript } from '../../lib/transactions/resolve.script.js';
import { useApp } from '../support/app.js';
import { damageRecord, readRecord } from '../support/idempotency-record.js';
import { useRedis } from '../support/redis.js';
import { replay, tracesOf, type Steps } from './replay.js';

const LONG_MS = 600_000;

describe('the models of spec/, replayed with the real scripts', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let scripts: ScriptRunner;
  const connections: Redis[] = [];

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url });
    scripts = new ScriptRunner(app.get(RedisConnection));
    for (let i = 0; i < 3; i++) connections.push(new Redis(redis.server.url));
  });

  beforeEach(async () => {
    await redis.client.flushall();
    for (const connection of connections) await connection.unwatch();
  });

  afterAll(async () => {
    for (const connection of connections) connection.disconnect();
  });

  const fresh = async (): Promise<void> => {
    for (const connection of connections) await connection.unwatch();
    await redis.client.flushall();
  };

  it('the commit marker agrees with its model at every step', async () => {
    const marker = (c: string): string => `marker:${c}`;
    const deadlineKey = (c: string): string => `deadline:${c}`;
    const markerIs = async (c: string, value: string): Promise<void> => {
      const words: Record<string, string | null> = { 0: null, 1: ARMED, 2: 'lost' };
      expect(await redis.client.get(marker(c))).toBe(value in words ? words[value] : value);
    };
    const valueIs = async (value: string): Promise<void> =>
      expect((await redis.client.get('value')) ?? '0').toBe(value);
    const steps: Steps = [
      [
        /^Redis, connection (\d): WATCH of caller \d, sets D (\d), arms M (\d): value (\d+), M (\d+), D (\d)$/,
        async (c, sets, arms, value, m, d) => {
          const connection = connections[Number(c)]!;
          // In the order of an attempt; one before it that wrote no EXEC has ended by UNWATCH.
          await connection.unwatch();
          if (sets === '1') await connection.set(deadlineKey(c), '', 'PX', LONG_MS);
          if (arms === '1') await connection.set(marker(c), ARMED, 'PX', LONG_MS);
          await connection.watch('value', marker(c), deadlineKey(c));
          await valueIs(value);
          await markerIs(c, m);
          expect(String(await redis.client.exists(deadlineKey(c)))).toBe(d);
        },
      ],
      [
        /^Redis, connection (\d): EXEC (\d+) of members (\d): (done|refused); value (\d+), M (\d+)$/,
        async (c, attempt, members, what, value, m) => {
          const multi = connections[Number(c)]!.multi();
          for (let bits = Number(members); bits > 0; bits >>= 1) if (bits & 1) multi.incr('value');
          const replies = await multi.set(marker(c), attempt, 'PX', LONG_MS).exec();
          expect(replies === null ? 'refused' : 'done').toBe(what);
          await valueIs(value);
          await markerIs(c, m);
        },
      ],
      [
        /^resolver: EXEC (\d+) of connection (\d): M (\d+): (\w+)$/,
        async (attempt, c, m, found) => {
          const keys = { marker: marker(c), beginning: marker(c) };
          const args = { attempt: attempt, ttlMs: LONG_MS };
          const resolution = await scripts.run(resolveScript, keys, args, Deadline.in(60_000));
          expect(resolution).toBe(found.toLowerCase().replace('_', '-'));
          await markerIs(c, m);
        },
      ],
      [/^another client increments the key$/, () => redis.client.incr('value')],
      [/^fault: the marker of connection (\d) is evicted$/, (c) => redis.client.del(marker(c))],
      [/^the deadline key of connection (\d) expires$/, (c) => redis.client.del(deadlineKey(c))],
    ];
    for (const trace of tracesOf('transactions')) {
      await fresh();
      await replay(trace, steps);
    }
  });

  it.each(['plain-runs', 'committed-runs', 'steps-that-hold', 'steps-of-the-dead'])(
    'the idempotency record agrees with its model at every step: %s',
    async (name) => {
      const keys = { record: 'record', steps: 'steps', index: 'index' };
      const { record } = keys;
      const fingerprint = ':x';
      const run: typeof scripts.run = (...all) => scripts.run(...all);
      const within = (): Deadline => Deadline.in(60_000);
      const tokenOf = (i: string): string => `token${i}`;
      /** The latest answer that each call continues with. */
      let traces: Record<string, RunTrace> = {};
      const firstTrace = (i: string): RunTrace => ({
        retentionMs: LONG_MS,
        attempt: 1,
        isAbandoned: false,
        hasSteps: true,
        lineage: tokenOf(i),
        keysEpoch: '',
        operation: '',
      });
      const recordIs = async (state: string, token: string): Promise<void> => {
        const fields = await readRecord(redis.client, record);
        const found = fields && (fields.kind === 'tombstone' ? 'held' : fields.state);
        expect(found ?? 'free').toBe(state.toLowerCase());
        expect(fields?.token).toBe(token === '9' ? undefined : tokenOf(token));
      };
      const stepIs = async (step: string): Promise<void> => {
        const words: Record<string, string | undefined> = { begun: 'BEGUN', undone: 'UNDONE', done: 'ENDED' };
        const entry = await redis.client.hget(keys.steps, 'step');
        expect(words[entry?.split('|')[0] ?? ''] ?? 'NONE').toBe(step);
      };
      const store = new StepStore(app.get(RedisConnection), scripts, new ResultSealer(undefined));
      const ownerOfSteps = (i: string): StepsOwner =>
        new StepsOwner(
          { record, token: tokenOf(i), fingerprint },
          keys,
          traces[i] ?? firstTrace(i),
          LONG_MS,
          undefined,
        );
      let ends = 0;
      const keepStep = (i: string, begins: boolean, isHeld: boolean): Promise<string> => {
        // Whichever case the process takes it for: the scripts for the usual case must not differ.
        const usual = ([undefined, 'first', 'next'] as const)[ends++ % 3];
        const step = { step: 'step', hasSteps: false, leaseMs: isHeld ? LONG_MS : 0, usual };
        return begins
          ? store.begin(ownerOfSteps(i), step, `${tokenOf(i)}.1`, within())
          : store.end(ownerOfSteps(i), step, { kind: 'value', bytes: '1' }, 0, within());
      };
      const kept = (word: string): string =>
        word === 'OVER' ? 'ended' : word.toLowerCase().replace('_', '-');
      const steps: Steps = [
        [
          /^Redis: claim of (\d): (\w+); record (\w+) of (\d)$/,
          async (i, answer, state, token) => {
            const running = runningRecord({ token: tokenOf(i), fingerprint });
            const args = { running, leaseMs: LONG_MS, wantsTtl: '' };
            // A claim that comes too late is sent again until its time is over.
            const deadline = answer === 'TOO_LATE' ? Deadline.in(50) : within();
            const reply = await run(claimScript, { record }, args, deadline).catch(() => undefined);
            if (reply?.kind === 'claimed' && reply.trace) traces[i] = { ...reply.trace, isAbandoned: false };
            const words = { claimed: 'CLAIMED', running: 'BUSY', done: 'REPLAY' } as Record<string, string>;
            // The model counts a copy of a finished run's claim as claimed; no caller gets its
            // answer.
            if (reply?.kind === 'done' && token === i && answer === 'CLAIMED')
              return await recordIs(state, token);
            const isHeld = reply?.kind === 'done' && reply.resultKind === 'tombstone';
            expect(isHeld ? 'HELD' : (words[reply?.kind ?? ''] ?? 'TOO_LATE')).toBe(answer);
            await recordIs(state, token);
          },
        ],
        [
          /^Redis: completion of (\d) as (\w+): (\w+); record (\w+) of (\d)$/,
          async (i, as, answer, state, token) => {
            const owner = ownerOfSteps(i);
            const result = { kind: 'value', bytes: '1' } as const;
            let ended: string;
            if (as === 'HELD') ended = await store.hold(owner, LONG_MS, 'step-interrupted', within());
            else if (name.startsWith('steps')) ended = await store.finish(owner, result, LONG_MS, within());
            else
              ended = await run(
                completeScript,
                { record },
                completion(owner.owner, result, LONG_MS),
                within(),
              );
            expect(ended === 'held' ? 'completed' : ended).toBe(kept(answer));
            await recordIs(state, token);
          },
        ],
        [
          /^Redis: release of (\d): (\w+); record (\w+) of (\d)$/,
          async (i, answer, state, token) => {
            const args = { token: tokenOf(i), memoryMs: LONG_MS, hasRun: 1 };
            expect(await run(releaseScript, { record }, args, within())).toBe(kept(answer));
            await recordIs(state, token);
          },
        ],
        [
          /^Redis: begin of the step by (\d): (\w+); record (\w+) of (\d), step (\w+)$/,
          async (i, answer, state, token, step) => {
            expect(await keepStep(i, true, true)).toBe(kept(answer));
            await recordIs(state, token);
            if (state === 'LASTING') await stepIs(step);
          },
        ],
        [
          /^Redis: end of the step by (\d), lease counted on (\d): (\w+); record (\w+) of (\d), step (\w+)$/,
          async (i, isHeld, answer, state, token, step) => {
            expect(await keepStep(i, false, isHeld === '1')).toBe(kept(answer));
            await recordIs(state, token);
            if (state === 'LASTING') await stepIs(step);
          },
        ],
        [
          /^Redis: (\d) takes back that the step began; step (\w+)$/,
          async (i, step) => {
            const args = { step: 'step', mark: `${tokenOf(i)}.1` };
            await run(unmarkStepScript, { steps: keys.steps }, args, within());
            await stepIs(step);
          },
        ],
        [
          /^Redis: WATCH of (\d); record (\w+) of (\d)$/,
          async (i, state, token) => {
            await connections[Number(i)]!.watch(record);
            const owner = ownerOf(await connections[Number(i)]!.get(record));
            expect(owner).toEqual({ state: state.toLowerCase(), token: tokenOf(token) });
          },
        ],
        [
          /^Redis: EXEC of (\d): (refused|done)[^;]*; record (\w+) of (\d)$/,
          async (i, what, state, token) => {
            const text = committedRecord(
              { token: tokenOf(i), fingerprint },
              { kind: 'value', bytes: '1' },
              Date.now() + LONG_MS,
            );
            const replies = await connections[Number(i)]!.multi()
              .incr('effects')
              .set(record, text, 'PX', LONG_MS)
              .exec();
            expect(replies === null ? 'refused' : 'done').toBe(what);
            await recordIs(state, token);
          },
        ],
        [
          /^the lease of \d ends$/,
          async () => {
            const { state } = (await readRecord(redis.client, record))!;
            // A running record ends with its lease. Only others outlive it.
            if (state === 'running') await redis.client.del(record);
            else await damageRecord(redis.client, record, { aliveUntil: '1' });
          },
        ],
        [/^Redis forgets the release of \d$/, () => redis.client.del(record)],
        [/^fault: \d is killed$/, async () => {}],
      ];
      for (const trace of tracesOf(name)) {
        await fresh();
        traces = {};
        await replay(trace, steps);
      }
    },
  );
});
