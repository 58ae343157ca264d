import type { ServerInfo } from './server-info.js';

/** Peculiarities of a kind of server that calls have to respect. Whatever can be tried out is tried out instead, as transactions are. */
export interface ServerTraits {
  /** The most arguments that it reads of one command, its name not counted. Of more it reads none, and closes the connection under all calls on it. */
  readonly maxArguments: number;
  /** Commands that it does not have, and that nothing needs there. */
  readonly lacks: readonly string[];
  /** Line of the log at boot for what the user must see to; undefined where there is nothing. */
  readonly advice: string | undefined;
}

const USUAL: ServerTraits = { maxArguments: Infinity, lacks: [], advice: undefined };

const OF_PRODUCTS: Readonly<Record<string, ServerTraits>> = {
  Dragonfly: {
    // Its flag max_multi_bulk_len, by default 65,536, counts the name too.
    maxArguments: 65_535,
    // No slot of it is ever being moved.
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
