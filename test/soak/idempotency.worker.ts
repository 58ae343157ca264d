import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Test } from '@nestjs/testing';
import {
  AtomicRedisError,
  AtomicRedisEvents,
  AtomicRedisModule,
  IdempotencyService,
  TransactionService,
} from '../../lib/index.js';
import { worker } from '../support/worker.js';
import { EFFECTS_KEY, formatEffect, watchedKey } from './effects.js';

export interface IdempotencyJob {
  /** Of the fault proxy of each worker. */
  urls: readonly string[];
  leaseMs: number;
}

/** One call under a key: what it finds, and what its work does if it comes to run. */
export interface IdempotentCall {
  readonly key: string;
  /**
   * Whether the work has an effect, and commits its run with it; else the run is told for over by
   * its answer alone.
   */
  readonly commits: boolean;
  readonly onDuplicate: 'refuse' | 'wait';
  /** Of the work: before its transaction, inside, and after it. */
  readonly beforeMs: number;
  readonly insideMs: number;
  readonly afterMs: number;
  /** Whether it fails before its transaction. */
  readonly fails: boolean;
}

export type CallReply =
  | { readonly answer: string }
  | {
      readonly error: string;
      /** As the error itself says, or because it is the work's own. */
      readonly retryable: boolean;
      readonly details?: string;
    };

class WorkFailed extends Error {
  override readonly name = 'WorkFailed';
}

/** How runs of this process end, as events tell. */
class RunEnds {
  private readonly waiting = new Map<string, ((outcome: string) => void)[]>();

  constructor(events: AtomicRedisEvents) {
    events.subscribe((event) => {
      if (event.type !== 'idempotency.run') return;
      const ended = this.waiting.get(event.operation) ?? [];
      this.waiting.delete(event.operation);
      // Of two runs of one key, one has lost it; which of them an event means is not known.
      for (const tell of ended) tell(ended.length > 1 ? 'unclear' : event.outcome);
    });
  }

  next(key: string): Promise<string> {
    return new Promise((resolve) => this.waiting.set(key, [...(this.waiting.get(key) ?? []), resolve]));
  }
}

/** Makes each call that comes in, many at a time, until it is killed. */
worker<IdempotencyJob>(async ({ data: { urls, leaseMs }, index, next, send }) => {
  const app = await Test.createTestingModule({
    imports: [
      AtomicRedisModule.forRoot({ connection: urls[index]!, namespace: 'atomic:', lazyConnect: true }),
    ],
  }).compile();
  app.useLogger(false);
  await app.init();
  const idempotency = app.get(IdempotencyService);
  const transactions = app.get(TransactionService);

  const ends = new RunEnds(app.get(AtomicRedisEvents));

  const work = async ({
    key,
    commits,
    beforeMs,
    insideMs,
    afterMs,
    fails,
  }: IdempotentCall): Promise<string> => {
    await sleep(beforeMs);
    if (fails) throw new WorkFailed();
    const answer = `${key} by ${process.pid}, ${randomUUID()}`;
    if (commits) await commit(key, answer, insideMs);
    await sleep(afterMs);
    return answer;
  };

  const commit = async (key: string, answer: string, insideMs: number): Promise<void> => {
    await transactions.run(
      [watchedKey(key)],
      async (tx) => {
        // Nobody writes what is watched: nothing but the record can keep a second effect away.
        await tx.read.get(watchedKey(key));
        await sleep(insideMs);
        tx.write.rpush(EFFECTS_KEY, formatEffect({ key, answer }));
      },
      { completesRun: () => answer, timeoutMs: 20_000 },
    );
  };

  const make = async (call: IdempotentCall): Promise<CallReply> => {
    const { key, commits, onDuplicate } = call;
    let end: Promise<string> | undefined;
    try {
      // The operation is what events tell of a run.
      const options = { operation: key, fingerprint: key, leaseMs, onDuplicate, waitTimeoutMs: 3_000 };
      const answer = await idempotency.run(
        key,
        () => {
          end = ends.next(key);
          return work(call);
        },
        options,
      );
      // A run that lost its key, or could not say how it ended, has an answer of its own, which
      // nothing but a commit can prevent.
      const ended = commits ? 'completed' : ((await end) ?? 'completed');
      return ended === 'completed' ? { answer } : { error: `run ${ended}`, retryable: true };
    } catch (thrown) {
      const error = thrown as Error;
      const retryable = error instanceof AtomicRedisError ? error.retryable : error instanceof WorkFailed;
      return { error: error.name, retryable, ...(!retryable && { details: String(error.stack) }) };
    }
  };

  send({ ready: true });
  for (;;) {
    const { id, call } = await next<{ id: number; call: IdempotentCall }>();
    void make(call).then((reply) => send({ id, reply }));
  }
});
