import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  AtomicRedisError,
  AtomicRedisEvents,
  IdempotencyService,
  TransactionService,
} from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { recordOperation } from '../histories/recorder.js';
import { worker } from '../support/worker.js';
import { EFFECTS_KEY, formatEffect, watchedKey } from './effects.js';

export interface IdempotencyJob {
  /** URLs of the fault proxy of each worker. */
  urls: readonly string[];
  leaseMs: number;
}

/** One call under a key: what it finds, and what its work does if it comes to run. */
export interface IdempotentCall {
  readonly key: string;
  /**
   * True if the work has an effect, which commits its run; else only its answer shows that the run
   * is over.
   */
  readonly commits: boolean;
  readonly onDuplicate: 'refuse' | 'wait';
  /** Time of the work before, inside and after its transaction. */
  readonly beforeMs: number;
  readonly insideMs: number;
  readonly afterMs: number;
  /** True if it fails before its transaction. */
  readonly fails: boolean;
}

export type CallReply =
  | { readonly answer: string }
  | {
      readonly error: string;
      /** Taken from the error, or true for the work's own error. */
      readonly retryable: boolean;
      readonly details?: string;
    };

class WorkFailed extends Error {
  override readonly name = 'WorkFailed';
}

/** Collects the ends of this process's runs from events. */
class RunEnds {
  private readonly waiting = new Map<string, ((outcome: string) => void)[]>();

  constructor(events: AtomicRedisEvents) {
    events.subscribe((event) => {
      if (event.type !== 'idempotency.run') return;
      const ended = this.waiting.get(event.operation) ?? [];
      this.waiting.delete(event.operation);
      // Of two runs of one key, one has lost it; an event does not say which.
      for (const tell of ended) tell(ended.length > 1 ? 'unclear' : event.outcome);
    });
  }

  next(key: string): Promise<string> {
    return new Promise((resolve) => this.waiting.set(key, [...(this.waiting.get(key) ?? []), resolve]));
  }
}

/** Makes each call that comes in, many at a time, until it is killed. */
worker<IdempotencyJob>(async ({ data: { urls, leaseMs }, index, next, send }) => {
  const app = await startApp({ connection: urls[index]!, lazyConnect: true });
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
    const args = [['append', EFFECTS_KEY, answer]];
    await recordOperation(
      { name: 'commit', model: 'list-append', args },
      () =>
        transactions.run(
          [watchedKey(key)],
          async (tx) => {
            // Nobody writes what is watched: nothing but the record can keep a second effect away.
            await tx.read.get(watchedKey(key));
            await sleep(insideMs);
            tx.write.rpush(EFFECTS_KEY, formatEffect({ key, answer }));
          },
          { completesRun: () => answer, timeoutMs: 20_000 },
        ),
      { resultOf: () => args },
    );
  };

  const make = async (call: IdempotentCall): Promise<CallReply> => {
    const { key, commits, onDuplicate } = call;
    let end: Promise<string> | undefined;
    try {
      // The operation is what events tell of a run.
      const options = { operation: key, fingerprint: key, leaseMs, onDuplicate, waitTimeoutMs: 3_000 };
      const answer = await recordOperation({ name: 'run', key, args: call }, () =>
        idempotency.run(
          key,
          () => {
            end = ends.next(key);
            return work(call);
          },
          options,
        ),
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
