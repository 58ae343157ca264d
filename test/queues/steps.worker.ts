import { QueueCommands } from '../../lib/queues/queue-commands.js';
import { worker, type WorkerContext } from '../support/worker.js';
import { openQueues } from './queues.js';

/** A moment in a job's life at which the worker says so and stands still, to be killed. */
export type Step =
  | 'pushed'
  | 'pushed for later'
  | 'woken, not leased'
  | 'leased, not known to the consumer'
  | 'running'
  | 'done, not acknowledged'
  | 'acknowledged, not known to the consumer'
  | 'failed, not retried'
  | 'failed, waits for its retry'
  | 'retried, not known to the consumer'
  | 'dead, not known to the consumer'
  | 'extended';

export interface StepJob {
  url: string;
  step: Step;
  leaseMs: number;
}

/** Works on the queue until it gets to its step. */
worker<StepJob>(async ({ data, send }: WorkerContext<StepJob>) => {
  const standStill = (): Promise<never> => {
    send('there');
    return new Promise(() => undefined);
  };
  const { step } = data;
  const original = QueueCommands.prototype.advance;
  let waited = false;
  QueueCommands.prototype.advance = async function (...args) {
    const [settlement, take] = args;
    if (step === 'done, not acknowledged' && settlement?.verdict === 'ack') await standStill();
    if (step === 'failed, not retried' && settlement?.verdict === 'retry') await standStill();
    // The queue was empty when it first looked: by the second time BZPOPMIN has told it of the job.
    if (step === 'woken, not leased' && take?.isWaiting && waited) await standStill();
    waited ||= take?.isWaiting === true;
    const answer = await original.apply(this, args);
    if (step === 'leased, not known to the consumer' && answer.taken.length > 0) await standStill();
    if (step === 'acknowledged, not known to the consumer' && settlement?.verdict === 'ack')
      await standStill();
    if (step === 'retried, not known to the consumer' && settlement?.verdict === 'retry') await standStill();
    if (step === 'failed, waits for its retry' && settlement?.verdict === 'retry') await standStill();
    if (step === 'dead, not known to the consumer' && answer.settled === 'dead') await standStill();
    return answer;
  };

  const { queues } = await openQueues(data.url);
  const isDeadly = step === 'dead, not known to the consumer';
  const waits = step === 'failed, waits for its retry' && { retry: { minMs: 3_000, maxMs: 3_000 } };
  const terms = { leaseMs: data.leaseMs, maxDeliveries: isDeadly ? 1 : 100, ...waits };
  const queue = queues.get<string>('q', terms);
  if (step === 'pushed') {
    await queue.push('from the worker');
    await standStill();
  }
  if (step === 'pushed for later') {
    await queue.push('from the worker', { delayMs: 3_000 });
    await standStill();
  }
  queue.consume(async (job) => {
    if (step === 'running') await standStill();
    if (step === 'extended') {
      await job.extend();
      await standStill();
    }
    if (step.startsWith('failed') || step.startsWith('retried') || isDeadly) throw new Error('on purpose');
  });
  send('ready');
  await new Promise(() => undefined);
});
