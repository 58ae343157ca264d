import type { RedisCommand } from './resp-frames.js';

/** Selects the requests that a fault strikes. */
export interface FaultOptions {
  /**
   * True for the requests to strike; others pass.
   * @default every command but those a client sends by itself, such as HELLO, INFO or PING
   */
  match?: (command: RedisCommand) => boolean;
  /**
   * Strikes this many requests, over all connections, then is over. `Infinity` until cancelled.
   * @default 1
   */
  times?: number;
}

/** A fault that was set. */
export interface Fault {
  /** Requests struck so far. */
  readonly count: number;
  /**
   * Resolves when the first strike has done its work: a reply was dropped, a connection closed, a
   * delay begun.
   */
  readonly triggered: Promise<void>;
  /** Strikes no further requests. */
  cancel(): void;
}

/** @inline */
type Late = Fault & {
  /**
   * Resolves when the server has answered the late request; false when it closed the connection
   * instead.
   */
  readonly delivered: Promise<boolean>;
};

/** @inline */
export type LateFault = Late;

export type FaultAction =
  /** The reply is cut off after `bytes`, then the connection closes. */
  | { kind: 'lose-reply'; bytes: number }
  | { kind: 'cut' }
  /** The proxy answers by itself; the request does not reach the server. */
  | { kind: 'answer'; reply: Buffer }
  | { kind: 'delay'; requestMs: number; replyMs: number }
  | { kind: 'black-hole'; deliver: boolean }
  | { kind: 'deliver-late'; afterMs: number };

const SENT_BY_CLIENTS = new Set(
  (
    'HELLO AUTH CLIENT INFO SELECT SCRIPT TIME PING COMMAND CLUSTER READONLY READWRITE ASKING QUIT ' +
    'SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE'
  ).split(' '),
);

export class ArmedFault implements LateFault {
  #left: number;
  #count = 0;
  readonly #match: (command: RedisCommand) => boolean;
  readonly triggered: Promise<void>;
  readonly delivered: Promise<boolean>;
  /** To be called when a strike has done its work. */
  fire!: () => void;
  settleDelivery!: (delivered: boolean) => void;

  constructor(
    readonly action: FaultAction,
    options: FaultOptions,
  ) {
    const { times = 1, match = ({ name }) => !SENT_BY_CLIENTS.has(name) } = options;
    if (!(times > 0)) throw new RangeError(`times must be above 0, got ${times}`);
    this.#left = times;
    this.#match = match;
    this.triggered = new Promise((resolve) => (this.fire = resolve));
    this.delivered = new Promise((resolve) => (this.settleDelivery = resolve));
  }

  get count(): number {
    return this.#count;
  }

  get over(): boolean {
    return this.#left <= 0;
  }

  /** Uses up one strike if the command is one of this fault's. */
  strikes(command: RedisCommand): boolean {
    if (this.over || !this.#match(command)) return false;
    this.#left -= 1;
    this.#count += 1;
    return true;
  }

  cancel(): void {
    this.#left = 0;
  }
}
