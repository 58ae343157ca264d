/** A value that can be written: text, bytes, or a number, which is sent in decimal. @inline */
type Value = string | Buffer | number | bigint;

/** A field and its value, or a member and its score. @inline */
type Entry<V = Value> = readonly [name: Value, value: V];

/**
 * Builds the new value. The first write decides its type, and all others must be of that type. A
 * write resolves when there is room for the next, so awaiting each one keeps little in memory. Its
 * values, also those of an iterable, have been copied then, and their bytes may be used again. An
 * error that a write throws ends the build.
 */
export interface ShadowWriter {
  /** Aborts if the build cannot continue: it lost its shadow, or the caller gave it up. */
  readonly signal: AbortSignal;
  /** Fields of a hash: an object, a Map, or any iterable of pairs. */
  hset(fields: Readonly<Record<string, Value>> | Iterable<Entry>): Promise<void>;
  /** Elements at the end of a list. */
  rpush(...elements: readonly Value[]): Promise<void>;
  /** Members of a set. */
  sadd(...members: readonly Value[]): Promise<void>;
  /** Members of a sorted set with their scores: an object, a Map, or any iterable of pairs. */
  zadd(scores: Readonly<Record<string, number>> | Iterable<Entry<number>>): Promise<void>;
  /** One entry of a stream. @default '*' for the id: Redis chooses it */
  xadd(fields: Readonly<Record<string, Value>> | Iterable<Entry>, id?: string): Promise<void>;
  /** A whole string. */
  set(value: Value): Promise<void>;
  /** Adds to the end of a string. */
  append(value: Value): Promise<void>;
}

/** A value that can be written. @inline */
export type ShadowValue = Parameters<ShadowWriter['set']>[0];
