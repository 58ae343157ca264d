/** How long a caller may keep others of its process waiting: turns spare them conflicts, they are not what makes it correct. */
const TURN_MS = 50;

/** A caller's turn on its keys, or a part in somebody else's. */
export interface Turn<Part> {
  /** The part that was offered and taken; undefined for a turn of its own. */
  readonly part?: Part;
  /** Whether somebody waits who may take a part. */
  readonly canOffer: boolean;
  end(): void;
  /** Gives the next in line a part in this turn, if that one takes it, instead of a turn of its own. */
  offer(part: Part): void;
  /** Parts in these turns do not go well: from now on, and as long as somebody waits for the key, there are only whole ones. */
  offerNoMore(): void;
}

interface Waiter<Part> {
  readonly start: (turn: Turn<Part>) => void;
  readonly takes: (part: Part) => boolean;
}

/**
 * Callers in this process that declare the same key take turns, first come first served, since letting them abort each other would
 * waste the round trips of all but one. Advisory: a turn that lasts longer than {@link TURN_MS} goes to the next in line, so
 * nobody waits for ever for a slow one.
 */
export class KeyTurns<Part> {
  private readonly lines = new Map<string, Line<Part>>();

  /**
   * The caller's turn for every key; at once where nobody else has one.
   * @param takes whether the caller takes a part in another one's turn on the same key; never asked where it has several keys
   */
  take(keys: readonly string[], takes: (part: Part) => boolean): Turn<Part> | Promise<Turn<Part>> {
    if (keys.length === 1) return this.takeOne(keys[0]!, takes);
    // In one order for all callers, or two of them would each hold what the other waits for.
    return this.takeAll([...new Set(keys)].toSorted());
  }

  private async takeAll(keys: readonly string[]): Promise<Turn<Part>> {
    const turns: Turn<Part>[] = [];
    for (const key of keys) turns.push(await this.takeOne(key, () => false));
    const end = (): void => {
      for (const turn of turns) turn.end();
    };
    return { canOffer: false, end, offer: nothing, offerNoMore: nothing };
  }

  private takeOne(key: string, takes: (part: Part) => boolean): Turn<Part> | Promise<Turn<Part>> {
    const line = this.lines.get(key);
    if (line) return new Promise((start) => line.join({ start, takes }));
    const fresh = new Line<Part>(key, this.lines);
    this.lines.set(key, fresh);
    return fresh.startTurn();
  }
}

/** Who waits for a key, and whose turn it is. */
class Line<Part> {
  readonly waiting: Waiter<Part>[] = [];
  current!: OwnTurn<Part>;
  /** Whether parts are offered. */
  shares = true;
  private startedAt = 0;
  /** Runs only while somebody waits. */
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly key: string,
    private readonly lines: Map<string, Line<Part>>,
  ) {}

  join(waiter: Waiter<Part>): void {
    this.waiting.push(waiter);
    this.timer ??= this.limitTurn();
  }

  startTurn(): Turn<Part> {
    this.startedAt = performance.now();
    this.current = new OwnTurn(this);
    if (this.waiting.length > 0) this.timer = this.limitTurn();
    return this.current;
  }

  goOn(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const next = this.waiting.shift();
    if (next) next.start(this.startTurn());
    else this.lines.delete(this.key);
  }

  private limitTurn(): NodeJS.Timeout {
    return setTimeout(() => this.current.end(), Math.max(0, this.startedAt + TURN_MS - performance.now()));
  }
}

class OwnTurn<Part> implements Turn<Part> {
  private isOver = false;

  constructor(private readonly line: Line<Part>) {}

  get canOffer(): boolean {
    return !this.isOver && this.line.shares && this.line.waiting.length > 0;
  }

  end(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.line.goOn();
  }

  offer(part: Part): void {
    const { waiting } = this.line;
    if (this.canOffer && waiting[0]!.takes(part)) waiting.shift()!.start(new PartInTurn(this, part));
  }

  offerNoMore(): void {
    this.line.shares = false;
  }
}

/** What is left of the turn is still its owner's to offer, and to end. */
class PartInTurn<Part> implements Turn<Part> {
  readonly canOffer = false;

  constructor(
    private readonly turn: Turn<Part>,
    readonly part: Part,
  ) {}

  end(): void {}

  offer(part: Part): void {
    this.turn.offer(part);
  }

  offerNoMore(): void {
    this.turn.offerNoMore();
  }
}

const nothing = (): void => undefined;

/** A turn that nobody waits for. */
export const ALONE: Turn<never> = { canOffer: false, end: nothing, offer: nothing, offerNoMore: nothing };
