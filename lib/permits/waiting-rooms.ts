import type { KeySignals } from '../connection/key-signals.js';
import type { Heir } from './permit.operations.js';
import type { Row } from './row.js';

/** A permit that was handed to a claim by a release in this process. */
export interface Grant {
  readonly fence: number;
  /** Monotonic time at which its lease began, or earlier. */
  readonly askedAt: number;
  readonly row: Row;
}

/** Wakes one claim; with its permit, where that is known. */
type Wake = (grant?: Grant) => void;

/** The claims of this process that wait for one name. They share one subscription. */
export class WaitingRoom {
  readonly claims = new Map<string, Wake>();
  /** True while messages arrive. */
  isSubscribed = false;
  private subscribing: Promise<void> | undefined;
  private unsubscribe: (() => void) | undefined;

  constructor(
    private readonly signals: KeySignals,
    private readonly line: string,
  ) {}

  /** Resolves once messages arrive, or could not be subscribed to in time. */
  subscribe(timeoutMs: number): Promise<void> {
    return (this.subscribing ??= this.open(timeoutMs).finally(() => (this.subscribing = undefined)));
  }

  close(): void {
    this.isSubscribed = false;
    this.unsubscribe?.();
    this.unsubscribe = undefined;
  }

  private async open(timeoutMs: number): Promise<void> {
    const told = (message: string | undefined): void => {
      if (message !== undefined) return this.claims.get(message)?.();
      // Lost: each looks for itself.
      this.close();
      for (const wake of [...this.claims.values()]) wake();
    };
    const unsubscribe = await this.signals.listen(this.line, told, timeoutMs).catch(() => undefined);
    if (!unsubscribe) return;
    this.unsubscribe = unsubscribe;
    this.isSubscribed = true;
    // All have left meanwhile.
    if (this.claims.size === 0) this.close();
  }
}

/** The claims of this process that wait, by the line that they stand in. */
export class WaitingRooms {
  private readonly rooms = new Map<string, WaitingRoom>();

  constructor(private readonly signals: KeySignals) {}

  has(line: string): boolean {
    return this.rooms.has(line);
  }

  isSubscribed(line: string): boolean {
    return this.rooms.get(line)?.isSubscribed ?? false;
  }

  enter(line: string, token: string, wake: Wake): WaitingRoom {
    let room = this.rooms.get(line);
    if (!room) this.rooms.set(line, (room = new WaitingRoom(this.signals, line)));
    room.claims.set(token, wake);
    return room;
  }

  leave(line: string, token: string): void {
    const room = this.rooms.get(line);
    if (!room?.claims.delete(token) || room.claims.size > 0) return;
    this.rooms.delete(line);
    room.close();
  }

  /**
   * Tells a claim of this process that it has the permit.
   *
   * @param askedAt as of {@link Grant}
   * @returns false if it does not wait here
   */
  handOver(line: string, { token, row }: Heir, askedAt: number): boolean {
    const wake = this.rooms.get(line)?.claims.get(token);
    if (!wake) return false;
    wake(row && { fence: row.fence, askedAt, row });
    return true;
  }
}
