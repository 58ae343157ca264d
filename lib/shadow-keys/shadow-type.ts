/** The types of a shadow, by the names that Redis gives them. */
export type ShadowType = 'string' | 'list' | 'set' | 'zset' | 'hash' | 'stream';

/** Returns the command that reads its size. */
export const SIZE_COMMAND: Readonly<Record<ShadowType, string>> = {
  string: 'STRLEN',
  list: 'LLEN',
  set: 'SCARD',
  zset: 'ZCARD',
  hash: 'HLEN',
  stream: 'XLEN',
};

export const SHADOW_TYPES = Object.keys(SIZE_COMMAND) as ShadowType[];

/** One replacement while it is built. */
export interface Shadow {
  /** The key to replace. */
  readonly liveKey: string;
  readonly key: string;
  /** The type of its first write; undefined before that. */
  type: ShadowType | undefined;
  /** True once a chunk was sent. */
  hasBegun: boolean;
  /** The size that Redis has confirmed. */
  size: number;
}
