import { whenAborted } from './abort-listeners.js';
import { unschedule, schedule } from './timer-queue.js';

/**
 * A point on the process's monotonic clock by which an operation must have settled.
 * Wall-clock jumps on this machine do not move it.
 */
export class Deadline {
  private constructor(
    /** On the scale of `performance.now()`, milliseconds. */
    readonly at: number,
  ) {}

  static in(ms: number): Deadline {
    return new Deadline(performance.now() + ms);
  }

  static latest(deadlines: readonly Deadline[]): Deadline {
    return new Deadline(Math.max(...deadlines.map((deadline) => deadline.at)));
  }

  plus(ms: number): Deadline {
    return new Deadline(this.at + ms);
  }

  get remainingMs(): number {
    return Math.max(0, this.at - performance.now());
  }

  get passed(): boolean {
    return performance.now() >= this.at;
  }

  /**
   * Settles as `promise` does, or rejects with the error of `onPassed` once the deadline has
   * passed.
   */
  race<T>(promise: Promise<T>, onPassed: () => Error): Promise<T> {
    return new Promise((resolve, reject) => {
      const alarm = schedule(this.at, () => reject(onPassed()));
      const settle =
        <V>(as: (value: V) => void) =>
        (value: V): void => {
          unschedule(alarm);
          as(value);
        };
      promise.then(settle(resolve), settle(reject));
    });
  }
}

/**
 * Resolves after `ms`; rejects with the signal's reason as soon as `signal` aborts. Leaves no timer
 * or listener behind.
 */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/**
 * A random delay between `minMs` and the exponentially growing ceiling of this attempt, counted
 * from 1. Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function fullJitter(attempt: number, minMs: number, maxMs: number): number {
  const ceiling = Math.min(maxMs, minMs * 2 ** Math.min(attempt, 30));
  return minMs + Math.random() * Math.max(0, ceiling - minMs);
}

/** Settles as `promise` does, or rejects with the signal's reason as soon as it aborts. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  // The promise may still reject after the race, when no code awaits it.
  promise.catch(() => undefined);
  signal.throwIfAborted();
  let stopListening = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    stopListening = whenAborted(signal, () => reject(signal.reason as Error));
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    stopListening();
  }
}
