import type { TestingModule } from '@nestjs/testing';
import { fc } from '../support/property.js';
import { claimScript } from '../../lib/idempotency/claim.script.js';
import { runningRecord } from '../../lib/idempotency/record-text.js';
import { releaseScript } from '../../lib/idempotency/release.script.js';
import { ResultSealer } from '../../lib/idempotency/result-sealer.js';
import type { RunTrace } from '../../lib/idempotency/run-trace.js';
import { keepStepScript } from '../../lib/idempotency/steps/keep-step.script.js';
import { StepsOwner, StepStore, type KeptStep } from '../../lib/idempotency/steps/step-store.js';
import { firstStepScript } from '../../lib/idempotency/steps/first-step.script.js';
import { nextStepScript } from '../../lib/idempotency/steps/next-step.script.js';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { Deadline } from '../../lib/runtime/deadline.js';
import { orderedArguments, orderedKeys, type Script } from '../../lib/scripting/script.js';
import { ScriptRunner } from '../../lib/scripting/script-runner.js';
import { useApp } from '../support/app.js';
import { damageRecord, readRecord } from '../support/idempotency-record.js';
import { useRedis } from '../support/redis.js';

const LEASE_MS = 60_000;
const RETENTION_MS = 600_000;
const KEYS = { record: 'record', steps: 'steps', index: 'index' };
const NO_LEASE = { leaseMs: 0, usual: undefined };

type Move =
  | { op: 'claim' | 'release' | 'finish' | 'hold'; actor: number }
  | { op: 'begin'; actor: number; step: string }
  | { op: 'end'; actor: number; step: string; usual: KeptStep['usual'] }
  | { op: 'die' };

const actor = fc.nat({ max: 2 });
const anyStep = fc.constantFrom('a', 'b');
const anyUsual = fc.constantFrom<KeptStep['usual'][]>(undefined, 'first', 'next');
const move: fc.Arbitrary<Move> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant('claim'), actor }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('begin'), actor, step: anyStep }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('end'), actor, step: anyStep, usual: anyUsual }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom('release', 'finish', 'hold'), actor }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('die') }) },
);

/** The expected record. */
interface Model {
  owner: string | undefined;
  state: 'free' | 'running' | 'lasting' | 'failed' | 'done';
  isAlive: boolean;
  attempt: number;
  lineage: string;
  steps: Map<string, string>;
}

describe('the record of a run with steps, against a model', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url });
  });

  const parts = (): { scripts: ScriptRunner; store: StepStore } => {
    const connection = app.get(RedisConnection);
    const scripts = new ScriptRunner(connection);
    return { scripts, store: new StepStore(connection, scripts, new ResultSealer(undefined)) };
  };

  it('[ID-50] [ID-51] in any order of 3 actors’ operations, only the owner changes steps, and the next attempt gets them', async () => {
    const { scripts, store } = parts();
    const record = KEYS.record;
    const traceOf = ({ attempt, lineage }: Model): RunTrace => ({
      retentionMs: RETENTION_MS,
      attempt,
      isAbandoned: false,
      hasSteps: true,
      lineage,
      keysEpoch: '',
      operation: 'a b|c;d',
    });

    await fc.assert(
      fc.asyncProperty(fc.array(move, { maxLength: 40 }), async (moves) => {
        await redis.client.flushall();
        const free = (): Model => ({
          owner: undefined,
          state: 'free',
          isAlive: false,
          attempt: 0,
          lineage: '',
          steps: new Map(),
        });
        let model = free();
        let claims = 0;
        const tokens: string[] = [];
        /** The latest trace that each actor continues with. */
        const traces: RunTrace[] = [];
        for (const one of moves) {
          const deadline = Deadline.in(5_000);
          if (one.op === 'die') {
            if (model.state === 'running') {
              await redis.client.del(record);
              model = free();
            } else if (model.state === 'lasting') {
              await damageRecord(redis.client, record, { aliveUntil: '1' });
              model.isAlive = false;
            }
          } else if (one.op === 'claim') {
            const token = `token${++claims}`;
            tokens[one.actor] = token;
            const reply = await scripts.run(
              claimScript,
              { record },
              { running: runningRecord({ token, fingerprint: ':x' }), leaseMs: LEASE_MS, wantsTtl: '' },
              deadline,
            );
            const goesOn = model.state === 'failed' || (model.state === 'lasting' && !model.isAlive);
            if (model.state === 'done') expect(reply.kind).toBe('done');
            else if (model.isAlive) expect(reply.kind).toBe('running');
            else if (goesOn) {
              const isAbandoned = model.state === 'lasting';
              model = { ...model, owner: token, state: 'lasting', isAlive: true, attempt: model.attempt + 1 };
              expect(reply).toEqual({ kind: 'claimed', trace: { ...traceOf(model), isAbandoned } });
            } else {
              expect(reply).toEqual({ kind: 'claimed' });
              model = {
                ...free(),
                owner: token,
                state: 'running',
                isAlive: true,
                attempt: 1,
                lineage: token,
              };
            }
            traces[one.actor] = traceOf(
              model.owner === token ? model : { ...free(), attempt: 1, lineage: token },
            );
          } else if (tokens[one.actor] !== undefined) {
            const token = tokens[one.actor]!;
            const trace = traces[one.actor]!;
            const isOwner = model.owner === token && model.state !== 'failed';
            const fingerprint = ':x';
            if (one.op === 'begin' || one.op === 'end') {
              const begins = one.op === 'begin';
              const run = new StepsOwner(
                { record, token, fingerprint },
                KEYS,
                trace,
                RETENTION_MS,
                undefined,
              );
              const hasSteps = model.steps.size > 0 && isOwner;
              // A run that does not count on its lease takes no record that vanished.
              const kept = begins
                ? await store.begin(run, { ...NO_LEASE, step: one.step, hasSteps }, `${token}.1`, deadline)
                : await store.end(
                    run,
                    { ...NO_LEASE, step: one.step, hasSteps, usual: one.usual },
                    { kind: 'value', bytes: token },
                    0,
                    deadline,
                  );
              const may =
                isOwner && model.state !== 'done' && model.state !== 'free' && (model.isAlive || !begins);
              expect(kept).toBe(may ? 'kept' : isOwner && model.state === 'done' ? 'ended' : 'lease-lost');
              if (may) {
                model.state = 'lasting';
                const known = model.steps.get(one.step);
                if (!begins) model.steps.set(one.step, `done|value|0|${token}`);
                else if (!known?.startsWith('done')) model.steps.set(one.step, `begun|${token}.1`);
              }
            } else if (one.op === 'release') {
              const args = { token, memoryMs: LEASE_MS, hasRun: 1 };
              await scripts.run(releaseScript, { record }, args, deadline);
              if (isOwner && model.state === 'lasting') model = { ...model, state: 'failed', isAlive: false };
              else if (isOwner && model.state === 'running') model = free();
              else if (model.state === 'free') await redis.client.del(record);
              if (model.state === 'free') await redis.client.del(record);
            } else if (model.state !== 'free') {
              const args = { record, token, fingerprint };
              const run = new StepsOwner(args, KEYS, trace, RETENTION_MS, undefined);
              const result = { kind: 'value', bytes: '1' } as const;
              const ended =
                one.op === 'finish'
                  ? await store.finish(run, result, LEASE_MS, deadline)
                  : await store.hold(run, LEASE_MS, 'abandoned', deadline);
              expect(ended !== 'lease-lost').toBe(isOwner);
              if (isOwner && model.state !== 'done') {
                if (one.op === 'finish') model.steps.clear();
                model = { ...model, state: 'done', isAlive: false };
              } else if (isOwner && one.op === 'finish') model.steps.clear();
            }
          }
          const fields = await readRecord(redis.client, record);
          expect(fields?.state).toBe(model.state === 'free' ? undefined : model.state);
          if (fields) expect(fields.token).toBe(model.owner);
          const { '': lineage, ...steps } = await redis.client.hgetall(KEYS.steps);
          if (model.state === 'lasting' || model.state === 'failed') {
            expect(lineage).toBe(model.lineage);
            expect(steps).toEqual(Object.fromEntries(model.steps));
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  describe('the recording of a step', () => {
    const lineage = 'owner';
    const trace: RunTrace = {
      retentionMs: RETENTION_MS,
      attempt: 1,
      isAbandoned: false,
      hasSteps: true,
      lineage,
      keysEpoch: '',
      operation: 'pay',
    };
    const runOf = (token: string): StepsOwner =>
      new StepsOwner(
        { record: KEYS.record, token, fingerprint: ':x' },
        KEYS,
        trace,
        2 * RETENTION_MS,
        undefined,
      );
    const running = runningRecord({ token: 'owner', fingerprint: ':x' });

    const keep = async (
      step: string,
      { hasSteps = true, by = 'owner', ...more }: Partial<KeptStep & { by: string }> = {},
    ): Promise<string> =>
      await parts().store.end(
        runOf(by),
        { step, usual: 'next', hasSteps, leaseMs: LEASE_MS, ...more },
        { kind: 'value', bytes: step },
        0,
        Deadline.in(5_000),
      );
    /** Sends the script of a step whose time is over. */
    const keepLate = async (script: Script): Promise<unknown> => {
      const { keepMs, trace: text, head, tail } = runOf('owner');
      const step = { step: 'late', entry: 'done|value|0|1' };
      const times = { retentionMs: RETENTION_MS, keepMs, leaseMs: LEASE_MS };
      const args = orderedArguments(script, {
        ...{ running, head, tail, lineage, trace: text, known: '', ...step, ...times },
      });
      args[script.args.indexOf('notAfterMs')] = '1';
      const keys = orderedKeys(script, KEYS);
      return await redis.client.call('EVAL', [script.lua, keys.length, ...keys, ...args]);
    };

    beforeEach(async () => {
      await redis.client.flushall();
      await keep('first', { usual: undefined, hasSteps: false });
    });

    it.each<[string, Script]>([
      ['in full', keepStepScript],
      ['as usual', nextStepScript],
    ])('[ID-50] is ignored when its script arrives too late, %s', async (_, script) => {
      expect(await keepLate(script)).toBe('TOO_LATE');
      expect(await redis.client.hkeys(KEYS.steps)).toEqual(['', 'first']);
    });

    it('[ID-50] leaves a note and an expiry if Redis has lost the earlier steps', async () => {
      await redis.client.del(KEYS.steps);
      expect(await keep('second')).toBe('kept');
      expect(await redis.client.hget(KEYS.steps, '')).toBe(`lost ${lineage}`);
      expect(await redis.client.pttl(KEYS.steps)).toBeGreaterThan(RETENTION_MS);
    });

    it('[ID-50] extends the life of all steps where no call of the run has done so', async () => {
      await redis.client.pexpire(KEYS.steps, 5_000);
      expect(await keep('second')).toBe('kept');
      expect(await redis.client.pttl(KEYS.steps)).toBeLessThanOrEqual(5_000);
      expect(await keep('third', { usual: undefined })).toBe('kept');
      expect(await redis.client.pttl(KEYS.steps)).toBeGreaterThan(RETENTION_MS);
    });

    it('[ID-51] is refused, like the end of the run, if another run has the key', async () => {
      const before = await redis.client.get(KEYS.record);
      for (const usual of [undefined, 'first', 'next'] as const)
        expect(await keep('second', { by: 'other', usual })).toBe('lease-lost');
      const result = { kind: 'value', bytes: '1' } as const;
      expect(await parts().store.finish(runOf('other'), result, LEASE_MS, Deadline.in(5_000))).toBe(
        'lease-lost',
      );
      expect(await redis.client.get(KEYS.record)).toBe(before);
      expect(await redis.client.hkeys(KEYS.steps)).toEqual(['', 'first']);
    });

    it('[ID-50] repairs a record that a failover has rolled back to before its first step', async () => {
      const before = await redis.client.get(KEYS.record);
      await redis.client.set(KEYS.record, before!.replace(';1;0;1;', ';1;0;0;'), 'KEEPTTL');
      expect(await keep('second')).toBe('kept');
      expect(await redis.client.get(KEYS.record)).toBe(before);
    });

    it.each([
      ['finds no steps', { found: '', expires: true }],
      ['finds unrelated steps', { found: 'of nobody', expires: true }],
      ['finds a record that an operator keeps for ever', { found: '', expires: false }],
    ])('[ID-50] leaves no other step if it is the first of a run that %s', async (_, { found, expires }) => {
      await redis.client.flushall();
      await redis.client.set(KEYS.record, running, 'PX', LEASE_MS);
      if (!expires) await redis.client.persist(KEYS.record);
      if (found) await redis.client.hset(KEYS.steps, found, 'done|value|0|');
      expect(await keepLate(keepStepScript)).toBe('TOO_LATE');
      expect(await keepLate(firstStepScript)).toBe(found || !expires ? 'OTHER' : 'TOO_LATE');
      expect(await redis.client.get(KEYS.record)).toBe(running);
      expect(await keep('first', { usual: 'first', hasSteps: false })).toBe('kept');
      expect(await redis.client.hgetall(KEYS.steps)).toEqual({ '': lineage, first: 'done|value|0|first' });
      expect(await redis.client.zrange(KEYS.index, '0', '-1')).toEqual([KEYS.record]);
      for (const key of [KEYS.steps, KEYS.index])
        expect(await redis.client.pttl(key)).toBeGreaterThan(RETENTION_MS);
      const recordMs = await redis.client.pttl(KEYS.record);
      expect(recordMs).toBeLessThanOrEqual(LEASE_MS + RETENTION_MS);
      expect(recordMs).toBeGreaterThan(RETENTION_MS);
    });
  });
});
