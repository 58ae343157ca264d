/** How long a caller may keep others of its process waiting: turns spare them conflicts, they are not what makes it correct. */
const TURN_MS = 50;

interface Line {
  /** The key's turn is taken; the next in line is woken when it ends. */
  readonly next: (() => void)[];
}

/**
 * Callers in this process that declare the same key take turns, first come first served, since letting them abort each other would
 * waste the round trips of all but one. Advisory: a turn that lasts longer than {@link TURN_MS} goes to the next in line, so
 * nobody waits for ever for a slow one.
 */
export class KeyTurns {
  private readonly lines = new Map<string, Line>();

  /** Resolves with a function that ends the turn, once it is the caller's turn for every key. */
  async take(keys: readonly string[]): Promise<() => void> {
    const ends: (() => void)[] = [];
    // In one order for all callers, or two of them would each hold what the other waits for.
    for (const key of [...new Set(keys)].toSorted()) ends.push(await this.takeOne(key));
    return () => {
      for (const end of ends) end();
    };
  }

  private takeOne(key: string): Promise<() => void> | (() => void) {
    const line = this.lines.get(key);
    if (!line) {
      const fresh: Line = { next: [] };
      this.lines.set(key, fresh);
      return this.startTurn(key, fresh);
    }
    return new Promise((resolve) => line.next.push(() => resolve(this.startTurn(key, line))));
  }

  private startTurn(key: string, line: Line): () => void {
    let over = false;
    const end = (): void => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      const next = line.next.shift();
      if (next) next();
      else this.lines.delete(key);
    };
    const timer = setTimeout(end, TURN_MS);
    return end;
  }
}
