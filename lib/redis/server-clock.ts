import type { Redis } from 'ioredis';
import type { Deadline } from './deadline.js';

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
