/** Length of every lease that a peer lets its user choose. */
export const LEASE_MS = 2_000;

/** Calls that a limit lets through. */
export const LIMIT = 3;

/** Time over which a limit counts: longer than any run of the harness. */
export const LIMIT_PER_MS = 3_600_000;

/** The effect of a work at a third party, outside the peer's Redis. */
export interface Effect {
  /** Has the effect, each time that it is called. */
  make(): Promise<string>;
  /** Asks the third party for the result of an earlier `make` for the same key. */
  find(): Promise<string | undefined>;
}

export interface Tool {
  readonly close: () => Promise<unknown>;
}

export interface RunOnce extends Tool {
  run(key: string, effect: Effect): Promise<string>;
}

export interface Update extends Tool {
  /** Reads the string, and writes the result of `change`. `change` may be called again. */
  update(key: string, change: (value: string | null) => Promise<string>): Promise<unknown>;
}

export interface Counter extends Tool {
  /** Adds 1. */
  add(key: string): Promise<unknown>;
}

export interface RateLimit extends Tool {
  /** @returns true for a call that is let through: `LIMIT` in `LIMIT_PER_MS` */
  take(key: string): Promise<boolean>;
}

export interface Queue extends Tool {
  push(id: string): Promise<unknown>;
  /** No job waits, is delayed or is being worked on. */
  isIdle(): Promise<boolean>;
}

/** A peer's means for each kind of job. */
export interface Tools {
  'run-once': RunOnce;
  'read-modify-write': Update;
  counter: Counter;
  lock: Update;
  'rate-limit': RateLimit;
  queue: Queue;
}

export type JobName = keyof Tools;

export interface Place {
  /** The address of Redis, through a proxy that makes faults. */
  readonly url: string;
}

export interface QueuePlace extends Place {
  /** The work of a job. It has an effect outside Redis. */
  readonly handle: (id: string) => Promise<unknown>;
  /** A consumer with effects of its own in Redis awaits this before it writes them. */
  readonly pause: (id: string) => Promise<unknown>;
}

/** A file of `peers/`. */
export interface PeerModule<Job extends JobName> {
  start(place: Job extends 'queue' ? QueuePlace : Place): Promise<Tools[Job]>;
  /** True for an error that tells its caller that nothing was applied. */
  notApplied(error: unknown): boolean;
  /** True for an error that tells its caller that the key is kept for an operator. */
  isHeld?(error: unknown): boolean;
}
