import { assertNotRetried, Propagation } from '../redis/retried-work.js';
import { advanceScript, Settled, type Delivery, type Verdict } from './advance.script.js';
import { Gathering } from './gathering.js';
import type { QueueAccess } from './queue-access.js';
import type { QueueCallOptions } from './queue.options.js';

/** Deliveries ended and jobs taken by one script. */
const MAX_ADVANCES = 100;

/** What is kept of why a delivery failed. */
const MAX_FAILURE_CHARS = 500;

export interface Settlement {
  readonly verdict: Verdict;
  readonly delivery: Pick<Delivery, 'id' | 'fence'>;
  /** Why it failed. */
  readonly failure?: string | undefined;
}

export interface Take {
  /** Whether the consumer waits by BLMOVE when there is nothing to take. */
  readonly willWait: boolean;
}

/** On which jobs are given out. */
export interface Terms {
  readonly leaseMs: number;
  readonly maxDeliveries: number;
}

/** What became of the delivery, and the job that was taken. */
export interface Advanced {
  /** `done` where there was none to end. */
  readonly settled: Settled;
  readonly taken: Delivery | undefined;
}

interface Advance {
  readonly settlement: Settlement | undefined;
  readonly take: Take | undefined;
}

interface Settings {
  readonly terms: Terms;
  readonly options: QueueCallOptions;
}

/** Ends deliveries and takes jobs of one queue. Calls of one turn of the event loop are one script, which ends before it takes. */
export class Advances {
  private readonly gathering: Gathering<Advance, Settings, Advanced>;

  constructor(private readonly of: QueueAccess) {
    this.gathering = new Gathering(of.redis.inFlight, {
      maxSize: MAX_ADVANCES,
      isSame: (a, b) =>
        a.terms.leaseMs === b.terms.leaseMs &&
        a.terms.maxDeliveries === b.terms.maxDeliveries &&
        a.options.timeoutMs === b.options.timeoutMs &&
        a.options.marker === b.options.marker,
      send: (advances, settings) => this.send(advances, settings),
    });
  }

  advance(
    settlement: Settlement | undefined,
    take: Take | undefined,
    terms: Terms,
    options: QueueCallOptions,
  ): Promise<Advanced> {
    const what = settlement ? 'Ending a job of' : 'Taking from';
    assertNotRetried(`${what} ${this.of.title}`, options.propagation);
    return this.gathering.call({ settlement, take }, { terms, options }, 1);
  }

  private async send(
    advances: readonly Advance[],
    { terms: { leaseMs, maxDeliveries }, options }: Settings,
  ): Promise<Advanced[]> {
    const { redis, title, queue, keys, consumer, processing } = this.of;
    const { pending, jobs, history, leases, dead, consumers } = keys;
    const ends: string[] = [];
    let wanted = 0;
    let willWait = false;
    for (const { settlement, take } of advances) {
      if (settlement) {
        const { verdict, delivery, failure = '' } = settlement;
        // A cut may leave half of a character.
        ends.push(verdict, delivery.id, delivery.fence, failure.slice(0, MAX_FAILURE_CHARS).toWellFormed());
      }
      if (take) wanted++;
      willWait ||= take?.willWait === true;
    }
    const { settled, taken } = await redis.operations.run(
      `Working on ${title}`,
      advanceScript,
      queue,
      { processing, pending, jobs, history, leases, dead, consumers },
      { maxDeliveries, leaseMs, wanted, consumer: willWait ? consumer : '', ends },
      { ...options, propagation: Propagation.Outside },
    );
    let ended = 0;
    let given = 0;
    return advances.map(({ settlement, take }) => ({
      settled: settlement ? settled[ended++]! : Settled.Done,
      taken: take && taken[given++],
    }));
  }
}
