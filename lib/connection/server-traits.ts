import type { ServerInfo } from './server-info.js';

/**
 * Peculiarities of a kind of server that calls must respect. Behaviour that can be tested at boot
 * is tested instead, as that of transactions is.
 */
export interface ServerTraits {
  /**
   * The most arguments of one command, its name not counted. On more, the server closes the
   * connection under all calls.
   */
  readonly maxArguments: number;
  /** Commands that it lacks, and that no call needs there. */
  readonly lacks: readonly string[];
  /**
   * A line for the log at boot about a precaution that the user must take; undefined if there is
   * none.
   */
  readonly advice: string | undefined;
}

const USUAL: ServerTraits = { maxArguments: Infinity, lacks: [], advice: undefined };

const OF_PRODUCTS: Readonly<Record<string, ServerTraits>> = {
  Dragonfly: {
    // Its flag max_multi_bulk_len, by default 65,536, counts the name too.
    maxArguments: 65_535,
    // Its slots never move.
    lacks: ['ASKING'],
    advice:
      'it checks memory for each command, also inside scripts and transactions, so that one which runs out of memory may be done in part. Keep headroom; ' +
      'docs/servers.md has what else differs there',
  },
};

export const traitsOf = (info: ServerInfo | undefined): ServerTraits =>
  OF_PRODUCTS[info?.product ?? ''] ?? USUAL;

/** Returns the traits that hold on every server given. */
export const strictest = (all: readonly ServerTraits[]): ServerTraits =>
  all.find(({ maxArguments }) => maxArguments < Infinity) ?? USUAL;
