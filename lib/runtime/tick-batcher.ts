/** Configures a batcher: which items leave together, and where to. */
export interface BatchSpec<Item, Terms> {
  /** The size at which a batch leaves at once. Each item says its own. */
  readonly maxSize: number;
  /**
   * Returns terms that serve both, or undefined if the two cannot share a batch. Default: any two
   * can.
   */
  readonly join?: (terms: Terms, others: Terms) => Terms | undefined;
  /** Takes the items of a batch, in the order in which they were added. */
  readonly send: (items: Item[], terms: Terms) => void;
}

/**
 * Collects the items that are added in one turn of the event loop. They leave together, in their
 * order. An item by itself leaves as early as a larger batch would.
 */
export class TickBatcher<Item, Terms = undefined> {
  private items: Item[] = [];
  private terms: Terms | undefined;
  private size = 0;
  /** The end that the open batch waits for. */
  private leavesWith: 'turn' | 'round' | undefined;

  constructor(private readonly spec: BatchSpec<Item, Terms>) {}

  get isEmpty(): boolean {
    return this.items.length === 0;
  }

  /**
   * @param mayWait true if the item may leave with those of the whole round of the event loop.
   * Node.js ends a turn after each timer and each read, so items that follow timers would each
   * leave alone
   */
  add(item: Item, size: number, terms: Terms, mayWait = false): void {
    const { spec } = this;
    let joined = terms;
    if (this.items.length > 0 && spec.join) {
      const shared = spec.join(this.terms as Terms, terms);
      if (shared === undefined) this.flush();
      else joined = shared;
    }
    this.terms = joined;
    this.items.push(item);
    this.size += size;
    if (this.size >= spec.maxSize) this.flush();
    else this.leaveSoon(mayWait);
  }

  private leaveSoon(mayWait: boolean): void {
    if (this.leavesWith === 'turn' || (mayWait && this.leavesWith === 'round')) return;
    this.leavesWith = mayWait ? 'round' : 'turn';
    const { items } = this;
    // A batch that left before, because it was full, has another array.
    const leave = (): void => {
      if (this.items === items) this.flush();
    };
    if (mayWait) setImmediate(leave);
    // Behind the microtasks: all code that the same read of the socket resumes adds its items
    // there.
    else process.nextTick(leave);
  }

  private flush(): void {
    const { items, terms } = this;
    this.items = [];
    this.terms = undefined;
    this.size = 0;
    this.leavesWith = undefined;
    this.spec.send(items, terms as Terms);
  }
}
