/** How long a caller may keep others of its process waiting: turns spare them conflicts, they are not what makes it correct. */
const TURN_MS = 50;

/** A caller's turn on its keys, or a part in somebody else's. */
export interface Turn<Part> {
  /** The part that was offered and taken; undefined for a turn of its own. */
  readonly part?: Part;
  /** Whether somebody waits for it to end. */
  readonly isAwaited: boolean;
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

/** A key's turn, and who waits for the next. */
interface Line<Part> {
  startedAt: number;
  /** Runs only while somebody waits. */
  timer: NodeJS.Timeout | undefined;
  readonly next: Waiter<Part>[];
  end: () => void;
  /** Whether parts are offered. */
  shares: boolean;
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
    return {
      ...ALONE,
      end() {
        for (const turn of turns) turn.end();
      },
    };
  }

  private takeOne(key: string, takes: (part: Part) => boolean): Turn<Part> | Promise<Turn<Part>> {
    const line = this.lines.get(key);
    if (!line) {
      const fresh: Line<Part> = {
        startedAt: 0,
        timer: undefined,
        next: [],
        end: () => undefined,
        shares: true,
      };
      this.lines.set(key, fresh);
      return this.startTurn(key, fresh);
    }
    return new Promise((resolve) => {
      line.next.push({ start: resolve, takes });
      line.timer ??= endLater(line);
    });
  }

  private startTurn(key: string, line: Line<Part>): Turn<Part> {
    let over = false;
    line.startedAt = performance.now();
    line.end = () => {
      if (over) return;
      over = true;
      clearTimeout(line.timer);
      line.timer = undefined;
      const next = line.next.shift();
      if (next) next.start(this.startTurn(key, line));
      else this.lines.delete(key);
    };
    if (line.next.length > 0) line.timer = endLater(line);
    const offerNoMore = (): void => void (line.shares = false);
    const offer = (part: Part): void => {
      if (over || !line.shares || !line.next[0]?.takes(part)) return;
      line.next.shift()!.start({ ...ALONE, part, offer, offerNoMore });
    };
    return {
      get isAwaited() {
        return !over && line.next.length > 0;
      },
      end: line.end,
      offer,
      offerNoMore,
    };
  }
}

/** A turn that nobody waits for. */
export const ALONE: Turn<never> = {
  isAwaited: false,
  end: () => undefined,
  offer: () => undefined,
  offerNoMore: () => undefined,
};

const endLater = (line: Line<never>): NodeJS.Timeout =>
  setTimeout(line.end, Math.max(0, line.startedAt + TURN_MS - performance.now()));
