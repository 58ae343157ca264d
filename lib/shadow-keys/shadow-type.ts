/** What a shadow can be, as Redis names types. */
export type ShadowType = 'string' | 'list' | 'set' | 'zset' | 'hash' | 'stream';

/** Tells how much is in it. */
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
  /** The key that it is to replace. */
  readonly liveKey: string;
  readonly key: string;
  /** That of its first write; undefined before. */
  type: ShadowType | undefined;
  /** Whether anything was sent. */
  hasBegun: boolean;
  /** What Redis confirmed to be in it. */
  size: number;
}
