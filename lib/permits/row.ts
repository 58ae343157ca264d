/** The most that stand in one row behind its first. */
export const MAX_ROW = 16;

/**
 * Claims of one process that stand in line one behind the other, in front of all others. The first
 * has the permit in Redis; from it the permit goes to the next within the process, under the first
 * one's token. They stay in line until the row ends, so that Redis serves the rest in their order
 * if it cannot continue.
 *
 * Redis has set the fences of all of them aside.
 */
export class Row {
  private readonly served: string[] = [];

  /**
   * @param token of the first, which the slot holds
   * @param lastFence of the last in the row, and the last that Redis has given
   * @param waiting tokens of those behind the first
   */
  constructor(
    readonly token: string,
    readonly slot: number,
    readonly lastFence: number,
    private readonly waiting: string[],
  ) {}

  /** The fence of the one whose turn it is. */
  get fence(): number {
    return this.lastFence - this.waiting.length;
  }

  /** Returns the token of the next, whose turn it is now. */
  next(): string | undefined {
    return this.waiting.shift();
  }

  /** No further caller has a turn: Redis serves the rest. */
  end(): void {
    this.waiting.length = 0;
  }

  /** Notes that one behind the first needs no place in line any more. */
  leaves(token: string): void {
    if (token !== this.token) this.served.push(token);
  }

  /** The tokens of those that have left. */
  get left(): readonly string[] {
    return this.served;
  }
}
