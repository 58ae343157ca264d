/** How long a caller may keep others of its process waiting: turns spare them conflicts, they are not what makes it correct. */
const TURN_MS = 50;

/** A key's turn, and who waits for the next. */
interface Line {
  startedAt: number;
  /** Runs only while somebody waits. */
  timer: NodeJS.Timeout | undefined;
  readonly next: (() => void)[];
  end: () => void;
}

/**
 * Callers in this process that declare the same key take turns, first come first served, since letting them abort each other would
 * waste the round trips of all but one. Advisory: a turn that lasts longer than {@link TURN_MS} goes to the next in line, so
 * nobody waits for ever for a slow one.
 */
export class KeyTurns {
  private readonly lines = new Map<string, Line>();

  /** A function that ends the turn, once it is the caller's turn for every key; at once where nobody else has one. */
  take(keys: readonly string[]): (() => void) | Promise<() => void> {
    if (keys.length === 1) return this.takeOne(keys[0]!);
    // In one order for all callers, or two of them would each hold what the other waits for.
    return this.takeAll([...new Set(keys)].toSorted());
  }

  private async takeAll(keys: readonly string[]): Promise<() => void> {
    const ends: (() => void)[] = [];
    for (const key of keys) ends.push(await this.takeOne(key));
    return () => {
      for (const end of ends) end();
    };
  }

  private takeOne(key: string): (() => void) | Promise<() => void> {
    const line = this.lines.get(key);
    if (!line) {
      const fresh: Line = { startedAt: 0, timer: undefined, next: [], end: () => undefined };
      this.lines.set(key, fresh);
      return this.startTurn(key, fresh);
    }
    return new Promise((resolve) => {
      line.next.push(() => resolve(this.startTurn(key, line)));
      line.timer ??= endLater(line);
    });
  }

  private startTurn(key: string, line: Line): () => void {
    let over = false;
    line.startedAt = performance.now();
    line.end = () => {
      if (over) return;
      over = true;
      clearTimeout(line.timer);
      line.timer = undefined;
      const next = line.next.shift();
      if (next) next();
      else this.lines.delete(key);
    };
    if (line.next.length > 0) line.timer = endLater(line);
    return line.end;
  }
}

const endLater = (line: Line): NodeJS.Timeout =>
  setTimeout(line.end, Math.max(0, line.startedAt + TURN_MS - performance.now()));
