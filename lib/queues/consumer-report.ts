import { Logger } from '@nestjs/common';
import { describe, type Outcome } from '../atomic-redis.errors.js';
import type { AtomicRedisEvent } from '../observability/event-types.js';
import { failureOf, type ObservedCall } from '../observability/observer.js';
import { Settled, Verdict, type Delivery } from './delivery.js';
import type { End } from './settle-and-take-terms.js';

type Failure = { readonly error: unknown } | undefined;

const ENDS = {
  [Verdict.Ack]: 'acknowledged',
  [Verdict.Retry]: 'retried',
  [Verdict.Release]: 'released',
  [Verdict.Defer]: 'deferred',
  [Verdict.Bury]: 'dead',
} as const;

/** Reports the ends of a consumer's deliveries by log and events. */
export class ConsumerReport {
  private readonly logger = new Logger('QueueConsumer');
  private readonly title: string;
  private isOut = false;

  constructor(
    private readonly queue: string,
    private readonly maxDeliveries: number,
  ) {
    this.title = describe(queue);
  }

  /** Redis answered: an outage is over. */
  isWell(): void {
    this.isOut = false;
  }

  /** Logs an outage, once. */
  outage(error: unknown): void {
    if (this.isOut) return;
    this.isOut = true;
    this.log(() =>
      this.logger.warn(`Failed to work on queue ${this.title}; trying again: ${(error as Error).message}`),
    );
  }

  givenBack(count: number, timeoutMs: number): void {
    this.log(() =>
      this.logger.warn(
        `${count} jobs of queue ${this.title} were still running after ${timeoutMs} ms and go back to it`,
      ),
    );
  }

  /** The handler threw when it had ended the job itself: nothing else tells of its error. */
  threwAfterEnd({ id }: Delivery, error: unknown): void {
    this.log(() =>
      this.logger.error(
        `The handler of job ${id} of queue ${this.title} ended the job, and then threw: ${reasonOf(error)}`,
        stackOf(error),
      ),
    );
  }

  /** The payload was too large to arrive in time, or could not be read: the job has failed. */
  didNotArrive({ id }: Delivery, error: unknown): void {
    this.log(() => this.logger.error(`Job ${id} of queue ${this.title} failed: ${reasonOf(error)}`));
  }

  /** The consumer has ended a delivery. */
  settled(operation: ObservedCall, delivery: Delivery, end: End, settled: Settled, failure: Failure): void {
    this.log(() => this.write(delivery, end, settled, failure));
    this.ended(operation, delivery, end, settled, failure);
  }

  /** A delivery has ended, by any party. */
  ended(
    operation: ObservedCall,
    delivery: Delivery,
    { verdict, delayMs }: Pick<End, 'verdict' | 'delayMs'>,
    settled: Settled,
    failure?: Failure,
  ): void {
    if (settled === Settled.Lost) this.tell(operation, delivery, 'lease-lost', failure);
    else if (settled === Settled.Dead) this.tell(operation, delivery, 'dead', failure);
    else this.tell(operation, delivery, ENDS[verdict], failure, delayMs);
  }

  unrecorded(operation: ObservedCall, delivery: Delivery, error: unknown): void {
    this.tell(operation, delivery, 'store-failed', { error });
  }

  private tell(
    operation: ObservedCall,
    { deliveries }: Delivery,
    ended: Extract<AtomicRedisEvent, { type: 'queues.process' }>['ended'],
    failure: Failure,
    delayMs?: number,
  ): void {
    operation.end(() => {
      const outcome: Outcome = ended === 'lease-lost' ? 'not-applied' : 'applied';
      const failed = failure && failureOf(failure.error);
      // The handler's error does not tell the fate of the job.
      const how = ended === 'store-failed' ? failed : { ...failed, outcome };
      const waits = delayMs !== undefined && { delayMs };
      return { type: 'queues.process', name: this.queue, outcome, ...how, ended, deliveries, ...waits };
    });
  }

  private write({ id, deliveries }: Delivery, end: End, settled: Settled, failure: Failure): void {
    const job = `Job ${id} of queue ${this.title}`;
    if (settled === Settled.Lost) {
      this.logger.warn(`${job} lost its lease before it ended, and is delivered again`);
    } else if (failure && end.verdict === Verdict.Defer) {
      this.logger.debug(
        `${job} was refused, and is delivered again in ${end.delayMs} ms: ${reasonOf(failure.error)}`,
      );
    } else if (failure) {
      const how = `${job} failed at delivery ${deliveries} of ${this.maxDeliveries}`;
      if (settled === Settled.Dead)
        this.logger.error(`${how} and is in the dead letters`, stackOf(failure.error));
      else
        this.logger.warn(`${how}, and is delivered again in ${end.delayMs} ms: ${reasonOf(failure.error)}`);
    }
  }

  /**
   * A logger that fails, or an error that has no text, must not cost the job that was taken
   * meanwhile.
   */
  private log(write: () => void): void {
    try {
      write();
    } catch {
      // No caller is left to tell.
    }
  }
}

const stackOf = (error: unknown): string | undefined => (error instanceof Error ? error.stack : undefined);

/** Returns the text of an error, for dead letters and logs. */
export function reasonOf(error: unknown): string {
  try {
    return error instanceof Error ? `${error.name}: ${error.message}` : `threw ${describe(error)}`;
  } catch {
    return 'threw a value without text';
  }
}
