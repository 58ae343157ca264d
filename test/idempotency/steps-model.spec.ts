import { Test, type TestingModule } from '@nestjs/testing';
import * as fc from 'fast-check';
import { AtomicRedisModule } from 'nestjs-atomic-redis';
import { claimScript } from '../../lib/idempotency/claim.script.js';
import { releaseScript } from '../../lib/idempotency/release.script.js';
import { traceText, type RunTrace } from '../../lib/idempotency/run-trace.js';
import { finishScript } from '../../lib/idempotency/steps/finish.script.js';
import { holdScript } from '../../lib/idempotency/steps/hold.script.js';
import { keepStepScript } from '../../lib/idempotency/steps/keep-step.script.js';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { Deadline } from '../../lib/runtime/deadline.js';
import { ScriptRunner } from '../../lib/scripting/script-runner.js';
import { damageRecord, readRecord } from '../support/idempotency-record.js';
import { useRedis } from '../support/redis.js';

const LEASE_MS = 60_000;
const RETENTION_MS = 600_000;
const KEYS = { record: 'record', steps: 'steps', index: 'index' };

type Move =
  | { op: 'claim' | 'release' | 'finish' | 'hold'; actor: number }
  | { op: 'begin' | 'end'; actor: number; step: string }
  | { op: 'die' };

const actor = fc.nat({ max: 2 });
const move: fc.Arbitrary<Move> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant('claim'), actor }) },
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constantFrom('begin', 'end'), actor, step: fc.constantFrom('a', 'b') }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom('release', 'finish', 'hold'), actor }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('die') }) },
);

/** What the record should be. */
interface Model {
  owner: string | undefined;
  state: 'free' | 'running' | 'lasting' | 'failed' | 'done';
  isAlive: boolean;
  attempt: number;
  lineage: string;
  steps: Map<string, string>;
}

describe('the record of a run with steps, against a model', () => {
  const redis = useRedis();
  let app: TestingModule;

  beforeAll(async () => {
    app = await Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' })],
    }).compile();
    app.useLogger(false);
    await app.init();
  });

  afterAll(() => app.close());

  it('[ID-50] [ID-51] whatever 3 actors do in whatever order, only the owner changes steps, and they go to the next attempt', async () => {
    const scripts = new ScriptRunner(app.get(RedisConnection));
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
        /** What each actor was told that it goes on with. */
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
              { token, fingerprint: ':x', leaseMs: LEASE_MS },
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
            const trace = traceText(traces[one.actor]!);
            const isOwner = model.owner === token && model.state !== 'failed';
            const fingerprint = ':x';
            if (one.op === 'begin' || one.op === 'end') {
              const begins = one.op === 'begin';
              const kept = await scripts.run(
                keepStepScript,
                KEYS,
                {
                  token,
                  fingerprint,
                  trace,
                  // A run that does not count on its lease takes no record that vanished.
                  leaseMs: 0,
                  keepMs: RETENTION_MS,
                  hasSteps: model.steps.size > 0 && isOwner ? 1 : 0,
                  step: one.step,
                  mark: begins ? `${token}.1` : '',
                  kind: 'value',
                  ttlMs: 0,
                  result: token,
                },
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
              const args = { token, fingerprint };
              const ended =
                one.op === 'finish'
                  ? await scripts.run(
                      finishScript,
                      KEYS,
                      { ...args, ttlMs: LEASE_MS, kind: 'value', result: '1' },
                      deadline,
                    )
                  : await scripts.run(
                      holdScript,
                      KEYS,
                      { ...args, heldMs: LEASE_MS, reason: 'abandoned', trace, keepMs: RETENTION_MS },
                      deadline,
                    );
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
});
