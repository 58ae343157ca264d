import { TickBatcher } from '../runtime/tick-batcher.js';
import { assertOutsideTransaction, Propagation } from '../runtime/transaction-scope.js';
import { settleAndTake } from './settle-and-take.operations.js';
import type { SettleAndTakeTerms, Settlement } from './settle-and-take-terms.js';
import { Settled, TakeMode, type Delivery } from './delivery.js';
import type { QueueAccess } from './queue-access.js';
import type { QueueCallOptions } from './queue.options.js';

/** Deliveries ended and jobs taken by one script. */
export const MAX_SETTLE_AND_TAKE = 100;

export interface Take {
  /** The number of jobs, at the most {@link MAX_SETTLE_AND_TAKE}. */
  readonly count: number;
  readonly mode: TakeMode;
  /** True if the process may hold other jobs beside those taken. */
  readonly hasNeighbours: boolean;
  /** True if the taker waits for jobs, and so may have been woken for some. */
  readonly isWaiting: boolean;
}

/** The end of the delivery, and the jobs that were taken. */
export interface SettledAndTaken {
  /** `done` where there was none to end. */
  readonly settled: Settled;
  readonly taken: readonly Delivery[];
  /** More jobs were there to be taken. */
  readonly left: boolean;
  /** There are jobs whose lease has ended, for a process that holds nothing else. */
  readonly suspects: boolean;
  /**
   * In how many milliseconds a lease ends or a delayed job is due, where no job was left to take.
   */
  readonly nextMs: number | undefined;
}

/** One call, and its promise. */
interface SettleAndTakeCall {
  readonly settlement: Settlement | undefined;
  readonly take: Take | undefined;
  readonly resolve: (answer: SettledAndTaken) => void;
  readonly reject: (error: unknown) => void;
}

interface Settings {
  readonly terms: SettleAndTakeTerms;
  readonly options: QueueCallOptions;
  /** The terms of the takes among the calls. */
  readonly take: Pick<Take, 'mode' | 'hasNeighbours'> | undefined;
}

/**
 * Ends deliveries and takes jobs of one queue. Calls of one turn of the event loop are one script,
 * which ends before it takes.
 */
export class SettleAndTake {
  private readonly batcher = new TickBatcher<SettleAndTakeCall, Settings>({
    maxSize: MAX_SETTLE_AND_TAKE,
    join,
    send: (calls, settings) => void this.sendAll(calls, settings),
  });

  constructor(private readonly of: QueueAccess) {}

  settleAndTake(
    settlement: Settlement | undefined,
    take: Take | undefined,
    terms: SettleAndTakeTerms,
    options: QueueCallOptions,
  ): Promise<SettledAndTaken> {
    const what = settlement ? 'Ending a job of' : 'Taking from';
    assertOutsideTransaction(`${what} ${this.of.title}`, options.propagation);
    const settings = { terms, options, take };
    return new Promise((resolve, reject) => {
      // Shutdown waits for it from now on.
      this.of.redis.inFlight.enter();
      const call = { settlement, take, resolve, reject };
      this.batcher.add(call, take?.count ?? 1, settings, settlement?.mayWait);
    });
  }

  private async sendAll(calls: readonly SettleAndTakeCall[], settings: Settings): Promise<void> {
    try {
      const answers = await this.send(calls, settings);
      calls.forEach(({ resolve }, i) => resolve(answers[i]!));
    } catch (error) {
      for (const { reject } of calls) reject(error);
    } finally {
      calls.forEach(() => this.of.redis.inFlight.leave());
    }
  }

  private async send(
    calls: readonly SettleAndTakeCall[],
    { terms, options, take }: Settings,
  ): Promise<SettledAndTaken[]> {
    const settlements: Settlement[] = [];
    let wanted = 0;
    let isWaiting = false;
    for (const one of calls) {
      if (one.settlement) settlements.push(one.settlement);
      if (one.take) {
        wanted += one.take.count;
        isWaiting ||= one.take.isWaiting;
      }
    }
    const { settled, taken, ...rest } = await this.of.redis.operations.part(
      settleAndTake,
      {
        of: this.of,
        settlements,
        wanted,
        mode: take?.mode ?? TakeMode.Any,
        hasNeighbours: take?.hasNeighbours ?? false,
        isWaiting,
        ...terms,
      },
      { ...options, propagation: Propagation.Outside },
      this.of.redis.ofJobs,
    );
    let ended = 0;
    let given = 0;
    return calls.map((one) => ({
      settled: one.settlement ? settled[ended++]! : Settled.Done,
      taken: one.take ? taken.slice(given, (given += one.take.count)) : [],
      ...rest,
    }));
  }
}

/** A call that only ends a delivery shares a script with takes of any mode. */
function join(a: Settings, b: Settings): Settings | undefined {
  const isSame =
    a.terms.leaseMs === b.terms.leaseMs &&
    a.terms.maxDeliveries === b.terms.maxDeliveries &&
    a.options.timeoutMs === b.options.timeoutMs &&
    a.options.deduplicate === b.options.deduplicate &&
    (!a.take || !b.take || (a.take.mode === b.take.mode && a.take.hasNeighbours === b.take.hasNeighbours));
  if (!isSame) return undefined;
  return a.take ? a : b;
}
