/** The keys of the calls on a Cluster. They have many hash tags, so that all masters are busy. */
const PAIRS = 8;
const WALLETS = 12;
const COUNTERS = 6;
const LISTS = 8;
/**
 * Start of each account of a pair, and of each wallet. It is low enough for some transfers to be
 * refused.
 */
export const OPENING_BALANCE = 200;

export interface Pair {
  readonly accounts: readonly [string, string];
  /** A list of what was moved. */
  readonly audit: string;
}

const keys = (count: number, name: string): string[] =>
  Array.from({ length: count }, (_, i) => `{${name}:${i}}`);

export const pairs: readonly Pair[] = keys(PAIRS, 'pair').map((tag) => ({
  accounts: [`${tag}:a`, `${tag}:b`],
  audit: `${tag}:audit`,
}));
export const wallets: readonly string[] = keys(WALLETS, 'wallet');
export const counters: readonly string[] = keys(COUNTERS, 'counter');
/** Lists of what idempotent runs have done. */
export const effectLists: readonly string[] = keys(LISTS, 'effects');

/** A line of a pair's audit: what was taken from its first account. */
export interface PairEntry {
  readonly id: string;
  readonly moved: number;
}

/** The outcome of one call, as its caller got it. */
export interface ClusterReport {
  readonly id: string;
  readonly on: 'pair' | 'wallets' | 'counter' | 'run';
  /** Index of the pair, the counter or the list of effects. */
  readonly index: number;
  /** `not-durable`: made, and not known to be on the replicas asked for. */
  readonly outcome: 'applied' | 'not-durable' | 'not-applied' | 'unknown' | 'unexpected';
  /** Time of the answer, in milliseconds since 1970. */
  readonly atMs: number;
  readonly error?: string;
  /** Details of a transfer between wallets. */
  readonly transfer?: { readonly from: number; readonly to: number; readonly amount: number };
  /** Key of an idempotent run; its answer is `id`. */
  readonly key?: string;
}
