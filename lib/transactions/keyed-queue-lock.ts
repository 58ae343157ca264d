/**
 * The longest time for which a caller keeps others of its process waiting, unless its round trips
 * take longer. Turns avoid conflicts; correctness does not need them.
 */
const TURN_MS = 50;

/** A caller's turn on its keys, or its part in another caller's turn. */
export interface LockSlot<Part> {
  /** The part that was offered and taken; undefined for a turn of its own. */
  readonly part?: Part;
  /** True if a waiting caller may take a part. */
  readonly canInvite: boolean;
  end(): void;
  /**
   * Lets the turn last that many milliseconds, if that is longer. A turn shorter than its round
   * trips would end before its EXEC arrives, and the next one would only abort.
   */
  lastAtLeast(ms: number): void;
  /**
   * Gives the next in line a part in this turn, if that one takes it, instead of a turn of its own.
   */
  invite(part: Part): void;
  /**
   * Stops offering parts after one failed: callers get whole turns as long as any waits for the
   * key.
   */
  stopSharing(): void;
}

interface LockWaiter<Part> {
  readonly start: (turn: LockSlot<Part>) => void;
  readonly accepts: (part: Part) => boolean;
}

/**
 * Callers in this process that declare the same key take turns, first come, first served. Otherwise
 * they would abort each other, and waste the round trips of all but one. Advisory: a turn that
 * lasts longer than {@link TURN_MS}, or than its round trips may take, goes to the next in line, so
 * a slow caller blocks no other for ever.
 */
export class KeyedQueueLock<Part> {
  private readonly lines = new Map<string, Line<Part>>();

  /**
   * Returns the caller's turn for every key, at once if no other caller has one.
   * @param takes true if the caller takes a part in another one's turn on the same key; never
   * called for several keys
   */
  take(keys: readonly string[], takes: (part: Part) => boolean): LockSlot<Part> | Promise<LockSlot<Part>> {
    if (keys.length === 1) return this.takeOne(keys[0]!, takes);
    // In one order for all callers, or two of them would each hold what the other waits for.
    return this.takeAll([...new Set(keys)].toSorted());
  }

  private async takeAll(keys: readonly string[]): Promise<LockSlot<Part>> {
    const turns: LockSlot<Part>[] = [];
    for (const key of keys) turns.push(await this.takeOne(key, () => false));
    const end = (): void => {
      for (const turn of turns) turn.end();
    };
    const lastAtLeast = (ms: number): void => {
      for (const turn of turns) turn.lastAtLeast(ms);
    };
    return { canInvite: false, end, lastAtLeast, invite: nothing, stopSharing: nothing };
  }

  private takeOne(key: string, takes: (part: Part) => boolean): LockSlot<Part> | Promise<LockSlot<Part>> {
    const line = this.lines.get(key);
    if (line) return new Promise((start) => line.join({ start, accepts: takes }));
    const fresh = new Line<Part>(key, this.lines);
    this.lines.set(key, fresh);
    return fresh.startTurn();
  }
}

/** The callers that wait for a key, and the owner of the turn. */
class Line<Part> {
  readonly waiting: LockWaiter<Part>[] = [];
  current!: OwnSlot<Part>;
  /** True while parts are offered. */
  shares = true;
  private startedAt = 0;
  /** Runs only while a caller waits. */
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly key: string,
    private readonly lines: Map<string, Line<Part>>,
  ) {}

  join(waiter: LockWaiter<Part>): void {
    this.waiting.push(waiter);
    this.timer ??= this.limitTurn();
  }

  startTurn(): LockSlot<Part> {
    this.startedAt = performance.now();
    this.current = new OwnSlot(this);
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
    const leftMs = this.startedAt + this.current.longestMs - performance.now();
    return setTimeout(() => this.endLateTurn(), Math.max(0, leftMs));
  }

  private endLateTurn(): void {
    // A timer may fire within the millisecond before.
    if (performance.now() < this.startedAt + this.current.longestMs - 1) this.timer = this.limitTurn();
    else this.current.end();
  }
}

class OwnSlot<Part> implements LockSlot<Part> {
  longestMs = TURN_MS;
  private isOver = false;

  constructor(private readonly line: Line<Part>) {}

  get canInvite(): boolean {
    return !this.isOver && this.line.shares && this.line.waiting.length > 0;
  }

  end(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.line.goOn();
  }

  lastAtLeast(ms: number): void {
    if (ms > this.longestMs) this.longestMs = ms;
  }

  invite(part: Part): void {
    const { waiting } = this.line;
    if (this.canInvite && waiting[0]!.accepts(part)) waiting.shift()!.start(new SharedSlot(this, part));
  }

  stopSharing(): void {
    this.line.shares = false;
  }
}

/** The rest of the turn stays its owner's to offer, and to end. */
class SharedSlot<Part> implements LockSlot<Part> {
  readonly canInvite = false;

  constructor(
    private readonly turn: LockSlot<Part>,
    readonly part: Part,
  ) {}

  end(): void {}

  lastAtLeast(): void {}

  invite(part: Part): void {
    this.turn.invite(part);
  }

  stopSharing(): void {
    this.turn.stopSharing();
  }
}

const nothing = (): void => undefined;

/** A turn without other callers. */
export const ALONE: LockSlot<never> = {
  canInvite: false,
  end: nothing,
  lastAtLeast: nothing,
  invite: nothing,
  stopSharing: nothing,
};
