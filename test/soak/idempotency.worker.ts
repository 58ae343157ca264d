import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Test } from '@nestjs/testing';
import {
  AtomicRedisError,
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
  readonly onDuplicate: 'reject' | 'wait';
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

/** Makes each call that comes in, many at a time, until it is killed. */
worker<IdempotencyJob>(async ({ data: { urls, leaseMs }, index, next, send }) => {
  const app = await Test.createTestingModule({
    imports: [AtomicRedisModule.forRoot({ connection: urls[index]!, lazyConnect: true })],
  }).compile();
  app.useLogger(false);
  await app.init();
  const idempotency = app.get(IdempotencyService);
  const transactions = app.get(TransactionService);

  const work = async ({ key, beforeMs, insideMs, afterMs, fails }: IdempotentCall): Promise<string> => {
    await sleep(beforeMs);
    if (fails) throw new WorkFailed();
    const answer = `${key} by ${process.pid}, ${randomUUID()}`;
    await transactions.run(
      [watchedKey(key)],
      async (tx) => {
        // Nobody writes what is watched: nothing but the record can keep a second effect away.
        await tx.read.get(watchedKey(key));
        await sleep(insideMs);
        tx.write.rpush(EFFECTS_KEY, formatEffect({ key, answer }));
        return answer;
      },
      { completesRun: (value) => value, timeoutMs: 20_000 },
    );
    await sleep(afterMs);
    return answer;
  };

  const make = async (call: IdempotentCall): Promise<CallReply> => {
    const { key, onDuplicate } = call;
    try {
      const options = { leaseMs, onDuplicate, waitTimeoutMs: 3_000, fingerprint: key };
      return { answer: await idempotency.run(key, () => work(call), options) };
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
