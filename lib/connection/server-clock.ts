import type { Redis } from 'ioredis';
import { RedisUnavailableError } from '../atomic-redis.errors.js';
import { sleep, type Deadline } from '../runtime/deadline.js';
import { isConnectionLoss, isTransientRefusal, toReplyError } from './reply-errors.js';

/**
 * The clock is read again after this long, in milliseconds, so that a step of the server's clock is
 * noticed.
 */
const REFRESH_AFTER_MS = 30_000;

/**
 * A reading that took longer is slow, in milliseconds: calls with little time would be judged late.
 */
const MAY_BE_SLOW_MS = 10;

/** The number of readings after which the quickest counts as the best that the network allows. */
const READINGS_TO_COMPARE = 3;

/**
 * After a slow reading the clock is read again after this long, in milliseconds. Doubles while
 * readings are slow.
 */
const READ_AGAIN_AFTER_MS = 100;

/** Readings within this time, in milliseconds, bound the same offset. */
const SAME_CLOCK_MS = 1_000;

/**
 * Estimates one server's clock from its TIME and this process's monotonic clock. The process's own
 * wall clock plays no part.
 *
 * The estimate lags behind the server by the time that the TIME reply took to arrive, and is never
 * ahead. So a deadline in server time is at most too early: a script refuses rather than act after
 * its caller gave up. A slow reading is therefore soon followed by another.
 */
export class ServerClock {
  private offsetMs: number | undefined;
  private learnedAt = -Infinity;
  private refreshAt = 0;
  private readings = 0;
  private quickestMs = Infinity;
  private slowInARow = 0;
  private learning: Promise<void> | undefined;

  constructor(private readonly server: Pick<Redis, 'time'>) {}

  /** Forgets all readings: the next connection may be to another server. */
  forget(): void {
    this.offsetMs = undefined;
    this.readings = 0;
    this.quickestMs = Infinity;
    this.slowInARow = 0;
  }

  learn(): Promise<void> {
    this.learning ??= this.ask().finally(() => (this.learning = undefined));
    return this.learning;
  }

  /**
   * Reads the clock, or waits a little if that may soon be possible.
   *
   * @param unavailable makes the error if it was not possible by the deadline
   * @throws RedisReplyError when the server refuses for good
   */
  async tryToLearn(deadline: Deadline, unavailable: (cause?: Error) => RedisUnavailableError): Promise<void> {
    try {
      await deadline.race(this.learn(), unavailable);
    } catch (error) {
      // Not compared with the deadline: a timer may fire a little before it.
      if (error instanceof RedisUnavailableError) throw error;
      if (deadline.passed || !(error instanceof Error)) throw unavailable(error as Error);
      if (!isConnectionLoss(error) && !isTransientRefusal(error))
        throw toReplyError(error, 'TIME, which time limits need');
      await sleep(Math.min(20, deadline.remainingMs));
    }
  }

  /**
   * Returns the deadline in the server's time, in whole milliseconds; undefined until the clock was
   * read.
   * @param now on the scale of `performance.now()`
   */
  at(deadline: Deadline, now = performance.now()): number | undefined {
    if (this.offsetMs === undefined) return undefined;
    if (now > this.refreshAt) this.learn().catch(() => undefined);
    return Math.floor(this.offsetMs + deadline.at);
  }

  private async ask(): Promise<void> {
    const askedAt = performance.now();
    const [seconds, microseconds] = await this.server.time();
    const now = performance.now();
    const serverMs = Number(seconds) * 1000 + Number(microseconds) / 1000;
    // The offset lies between these two bounds.
    const [lowest, highest] = [serverMs - now, serverMs - askedAt];
    const known = now - this.learnedAt < SAME_CLOCK_MS ? this.offsetMs : undefined;
    const isKnownBetter = known !== undefined && known > lowest && known <= highest;
    if (!isKnownBetter) this.offsetMs = lowest;
    this.slowInARow = this.isSlow(now - askedAt) ? this.slowInARow + 1 : 0;
    const refreshAfterMs = this.slowInARow > 0 ? READ_AGAIN_AFTER_MS * 2 ** (this.slowInARow - 1) : Infinity;
    this.refreshAt = now + Math.min(refreshAfterMs, REFRESH_AFTER_MS);
    this.learnedAt = now;
  }

  private isSlow(tookMs: number): boolean {
    const isUsual = this.readings >= READINGS_TO_COMPARE && tookMs <= 2 * this.quickestMs;
    this.readings++;
    this.quickestMs = Math.min(this.quickestMs, tookMs);
    return tookMs > MAY_BE_SLOW_MS && !isUsual;
  }
}

/** Keeps one clock for each server. */
export class ServerClocks {
  private readonly clocks = new WeakMap<Redis, ServerClock>();

  of(server: Redis): ServerClock {
    let clock = this.clocks.get(server);
    if (!clock) this.clocks.set(server, (clock = new ServerClock(server)));
    return clock;
  }
}
