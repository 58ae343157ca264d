/** The number of round trips that are remembered. */
const REMEMBERED = 16;

/**
 * The least time that is kept for one round trip, in milliseconds: a busy machine may stand still
 * this long.
 */
export const MIN_GRACE_MS = 50;

/** The factor by which a round trip may be slower than the slowest one remembered. */
const FACTOR = 3;

/** The latest round trips to one server. */
export class RoundTrips {
  private readonly ms = new Float64Array(REMEMBERED);
  private at = 0;
  private slowest = 0;

  note(ms: number): void {
    const forgotten = this.ms[this.at]!;
    this.ms[this.at] = ms;
    this.at = (this.at + 1) % REMEMBERED;
    if (ms >= this.slowest) this.slowest = ms;
    else if (forgotten === this.slowest) this.slowest = Math.max(...this.ms);
  }

  /** Forgets all but this one: the others tell of a server that was slow once. */
  startFrom(ms: number): void {
    this.ms.fill(0);
    this.slowest = 0;
    this.note(ms);
  }

  /** Time within which an answer is expected, in milliseconds. */
  get graceMs(): number {
    return Math.max(MIN_GRACE_MS, FACTOR * this.slowest);
  }
}
