import { whenAborted } from '../runtime/abort-listeners.js';
import { unschedule, schedule, type ScheduledCall } from '../runtime/timer-queue.js';
import { IntrusiveSet, type SetMember } from '../runtime/intrusive-set.js';
import { Deadline } from '../runtime/deadline.js';

/**
 * The time for which a suspect waits for the other jobs of the process to end, and then keeps them
 * out while it runs, in milliseconds. Longer jobs run beside it: a suspect that kills them counts
 * as guilty, and they are excused.
 */
const ALONE_MS = 5_000;

/**
 * The time for which a suspect that is taken by hand waits for other jobs to end, in milliseconds:
 * what holds them may be what takes.
 */
const ALONE_BY_HAND_MS = 1_000;

/** A process's right to hold one suspect and nothing else. */
export interface Alone {
  /** When it is over, others may take jobs again. Repeating it does nothing. */
  end(): void;
}

/** A job that was taken by hand, which nothing tells of being forgotten. */
export interface HeldByHand extends SetMember {
  /** Monotonic time. */
  readonly leaseEndsAt: number;
}

/**
 * The jobs that this process holds and may hold, over all its queues. A job whose process died may
 * have killed it. It is taken alone, so that it can do no harm to others, and so that the next
 * death is its own doing.
 */
export class Hands {
  private readonly byHand = new IntrusiveSet<HeldByHand>();
  /** Jobs that consumers run. */
  private running = 0;
  /** Takes under way. */
  private taking = 0;
  /** Takes under way that no consumer makes. */
  private takingByHand = 0;
  /** Jobs that all consumers may run at a time. */
  private capacity = 0;
  private alone: Alone | undefined;
  private readonly changed = new Set<() => void>();

  /** True if a suspect has the process, or is about to. */
  get isTakenAlone(): boolean {
    return this.alone !== undefined;
  }

  /** True if a job that is taken now may have others beside it. */
  get hasNeighbours(): boolean {
    const { capacity, takingByHand } = this;
    return capacity + takingByHand > 1 || (capacity + takingByHand > 0 && this.holdsByHand);
  }

  /** @returns to be called when the consumer has stopped */
  addCapacity(concurrency: number): () => void {
    this.capacity += concurrency;
    return () => void (this.capacity -= concurrency);
  }

  /** A consumer was given a job. */
  beginRun(): void {
    this.running++;
  }

  /** It has ended it, and those that it took with the end. */
  endRun(): void {
    this.running--;
    this.tell();
  }

  hold(job: HeldByHand): void {
    this.byHand.add(job);
  }

  letGo(job: HeldByHand): void {
    if (this.byHand.delete(job)) this.tell();
  }

  /**
   * Runs a take that must not happen while a suspect has the process; the caller has just seen that
   * none has.
   */
  async take<T>(by: 'hand' | 'consumer', work: () => Promise<T>): Promise<T> {
    const byHand = by === 'hand' ? 1 : 0;
    this.taking++;
    this.takingByHand += byHand;
    try {
      return await work();
    } finally {
      this.taking--;
      this.takingByHand -= byHand;
      this.tell();
    }
  }

  /**
   * Resolves with true once no suspect has the process, or with false when the time is up.
   * @throws the signal's reason
   */
  async open(until: Deadline, signal?: AbortSignal): Promise<boolean> {
    return await this.until(() => !this.alone, until, signal);
  }

  /**
   * Keeps others from taking jobs, and resolves once the process holds none, or has held one for
   * too long. Resolves with undefined when the time is up.
   * @throws the signal's reason
   */
  async takeAlone(
    by: 'hand' | 'consumer',
    until: Deadline,
    signal?: AbortSignal,
  ): Promise<Alone | undefined> {
    while (this.alone) if (!(await this.open(until, signal))) return undefined;
    let alarm: ScheduledCall | undefined;
    const alone: Alone = {
      end: () => {
        if (alarm) unschedule(alarm);
        if (this.alone !== alone) return;
        this.alone = undefined;
        this.tell();
      },
    };
    this.alone = alone;
    try {
      const isIdle = (): boolean => this.running + this.taking === 0 && !this.holdsByHand;
      const waitMs = by === 'hand' ? ALONE_BY_HAND_MS : ALONE_MS;
      await this.until(isIdle, Deadline.in(Math.min(waitMs, until.remainingMs)), signal);
    } catch (error) {
      alone.end();
      throw error;
    }
    alarm = schedule(performance.now() + ALONE_MS, () => alone.end());
    return alone;
  }

  /** Nothing waits any more. */
  close(): void {
    this.alone?.end();
  }

  /** Forgets jobs whose lease is over: another process may have them. */
  private get holdsByHand(): boolean {
    const now = performance.now();
    for (const job of this.byHand) {
      if (job.leaseEndsAt > now) return true;
      this.byHand.delete(job);
    }
    return false;
  }

  private tell(): void {
    for (const look of [...this.changed]) look();
  }

  private until(is: () => boolean, deadline: Deadline, signal?: AbortSignal): Promise<boolean> {
    if (is()) return Promise.resolve(true);
    signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const settle = (how: () => void): void => {
        unschedule(alarm);
        stopListening();
        this.changed.delete(look);
        how();
      };
      const look = (): void => {
        if (is()) settle(() => resolve(true));
      };
      const stopListening = signal
        ? whenAborted(signal, () => settle(() => reject(signal.reason as Error)))
        : () => undefined;
      const alarm = schedule(deadline.at, () => settle(() => resolve(is())));
      this.changed.add(look);
    });
  }
}
