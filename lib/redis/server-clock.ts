import type { Redis } from 'ioredis';
import { RedisUnavailableError } from '../atomic-redis.errors.js';
import { sleep, type Deadline } from './deadline.js';
import { isConnectionLoss, isTransientRefusal, toReplyError } from './reply-errors.js';

/** After this long the clock is read again, so that a step of the server's clock is noticed. */
const REFRESH_AFTER_MS = 30_000;

/**
 * One server's clock, told from its TIME and this process's monotonic clock; the process's own wall clock plays no part.
 *
 * The estimate is never ahead of the server, by the time the TIME reply took to arrive: a deadline put into server time
 * is at most too early, so a script refuses rather than act after its caller gave up.
 */
export class ServerClock {
  private offsetMs: number | undefined;
  private learnedAt = 0;
  private learning: Promise<void> | undefined;

  constructor(private readonly server: Pick<Redis, 'time'>) {}

  /** Forgets what it knows: the next connection may be to another server. */
  forget(): void {
    this.offsetMs = undefined;
  }

  learn(): Promise<void> {
    this.learning ??= this.ask().finally(() => (this.learning = undefined));
    return this.learning;
  }

  /**
   * Learns, or waits a little where that may be possible before long.
   *
   * @param unavailable what to throw when it was not possible by the deadline
   * @throws RedisReplyError when the server refuses for good
   */
  async tryToLearn(deadline: Deadline, unavailable: (cause?: Error) => RedisUnavailableError): Promise<void> {
    try {
      await deadline.race(this.learn(), unavailable);
    } catch (error) {
      // Not by the deadline: a timer may end a little before it.
      if (error instanceof RedisUnavailableError) throw error;
      if (deadline.passed || !(error instanceof Error)) throw unavailable(error as Error);
      if (!isConnectionLoss(error) && !isTransientRefusal(error))
        throw toReplyError(error, 'TIME, which time limits need');
      await sleep(Math.min(20, deadline.remainingMs));
    }
  }

  /** The deadline in the server's time, whole milliseconds; undefined until the clock is learned. */
  at(deadline: Deadline): number | undefined {
    if (this.offsetMs === undefined) return undefined;
    if (performance.now() - this.learnedAt > REFRESH_AFTER_MS) this.learn().catch(() => undefined);
    return Math.floor(this.offsetMs + deadline.at);
  }

  private async ask(): Promise<void> {
    const [seconds, microseconds] = await this.server.time();
    this.learnedAt = performance.now();
    this.offsetMs = Number(seconds) * 1000 + Number(microseconds) / 1000 - this.learnedAt;
  }
}

/** One for each server. */
export class ServerClocks {
  private readonly clocks = new WeakMap<Redis, ServerClock>();

  of(server: Redis): ServerClock {
    let clock = this.clocks.get(server);
    if (!clock) this.clocks.set(server, (clock = new ServerClock(server)));
    return clock;
  }
}
