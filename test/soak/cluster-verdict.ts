import type { Recovery } from '../../lib/transfers/across-slots/across-slots.options.js';
import { NOTED_WITHIN_MS, type ClusterEvent } from './cluster-faults.js';
import { counters, effectLists, OPENING_BALANCE, pairs, wallets } from './cluster-bank.js';
import type { ClusterReport, PairEntry } from './cluster-bank.js';

/** The final state of Redis, in the order of the keys of cluster-bank.ts. */
export interface ClusterState {
  readonly pairs: readonly {
    readonly balances: readonly [number, number];
    readonly audit: readonly string[];
  }[];
  readonly wallets: readonly number[];
  /** Null where there is none. */
  readonly counters: readonly (number | null)[];
  readonly effects: readonly (readonly string[])[];
}

export interface KindVerdict {
  readonly calls: number;
  readonly applied: number;
  /** Made, and reported as not being on the replicas asked for. */
  readonly notDurable: number;
  readonly notApplied: number;
  readonly unknown: number;
  readonly unexpected: number;
  /** Acknowledged, and not there. */
  readonly lost: number;
  /** There more than once, or there though it was reported as not applied. */
  readonly doubled: number;
  /**
   * Lost, and not acknowledged about when a master died. Where calls leave no line of their own it
   * cannot be told: 0.
   */
  readonly lostOtherwise: number;
  /**
   * Balances that are not what the lines beside them come to; of wallets, units of money that were
   * made or lost.
   */
  readonly wrong: number;
}

export type ClusterVerdict = Readonly<Record<ClusterReport['on'], KindVerdict>> & {
  readonly examples: readonly string[];
};

/** The result of a run on a Cluster. */
export interface ClusterOutcome {
  readonly verdict: ClusterVerdict;
  /** The ends of transfers across slots that their callers had left. */
  readonly recovery: Pick<Recovery, 'credited' | 'refunded' | 'failed'>;
  /** The library's own keys that have no time to live. */
  readonly leftovers: number;
}

const EXAMPLES = 8;

/** Compares the callers' answers with the state of Redis. */
export function judgeCluster(
  reports: readonly ClusterReport[],
  state: ClusterState,
  events: readonly ClusterEvent[],
): ClusterVerdict {
  const of = (on: ClusterReport['on']) => reports.filter((report) => report.on === on);
  const inWindow = ({ atMs }: ClusterReport): boolean =>
    events.some(({ fromMs, toMs, loss }) => loss && fromMs <= atMs && atMs <= toMs + NOTED_WITHIN_MS);
  const around = (report: ClusterReport) => ({
    ...report,
    events: events
      .filter(
        ({ fromMs, toMs }) =>
          Math.abs(fromMs - report.atMs) < 10_000 || Math.abs(toMs - report.atMs) < 10_000,
      )
      .map(({ what, fromMs, toMs }) => `${what}: ${fromMs - report.atMs} to ${toMs - report.atMs} ms`),
  });
  const examples: string[] = [];
  const show = (what: string, shown: readonly unknown[]) =>
    examples.push(...shown.slice(0, 3).map((one) => `${what}: ${JSON.stringify(one)}`));

  const judge = (
    on: ClusterReport['on'],
    found: { lost: readonly ClusterReport[] | number; doubled: readonly unknown[] | number; wrong?: number },
  ): KindVerdict => {
    const all = of(on);
    const count = (outcome: ClusterReport['outcome']) => all.filter((one) => one.outcome === outcome).length;
    const lostOtherwise = typeof found.lost === 'number' ? [] : found.lost.filter((one) => !inWindow(one));
    show(`${on} lost otherwise`, lostOtherwise.map(around));
    if (typeof found.doubled !== 'number') show(`${on} doubled`, found.doubled);
    show(
      `${on} unexpected`,
      all.filter(({ outcome }) => outcome === 'unexpected'),
    );
    show(
      `${on} unknown`,
      all.filter(({ outcome }) => outcome === 'unknown'),
    );
    return {
      calls: all.length,
      applied: count('applied'),
      notDurable: count('not-durable'),
      notApplied: count('not-applied'),
      unknown: count('unknown'),
      unexpected: count('unexpected'),
      lost: typeof found.lost === 'number' ? found.lost : found.lost.length,
      doubled: typeof found.doubled === 'number' ? found.doubled : found.doubled.length,
      lostOtherwise: lostOtherwise.length,
      wrong: found.wrong ?? 0,
    };
  };

  return {
    pair: judge('pair', judgePairs(of('pair'), state.pairs)),
    wallets: judge('wallets', judgeWallets(of('wallets'), state.wallets)),
    counter: judge('counter', judgeCounters(of('counter'), state.counters)),
    run: judge('run', judgeRuns(of('run'), state.effects)),
    examples: examples.slice(0, EXAMPLES),
  };
}

function judgePairs(reports: readonly ClusterReport[], state: ClusterState['pairs']) {
  const entries = state.map(({ audit }) => audit.map((line) => JSON.parse(line) as PairEntry));
  const ids = entries.flat().map(({ id }) => id);
  const there = new Set(ids);
  const outcomes = new Map(reports.map(({ id, outcome }) => [id, outcome]));
  const wrong = pairs.filter((_, i) => {
    const moved = entries[i]!.reduce((sum, entry) => sum + entry.moved, 0);
    const [first, second] = state[i]!.balances;
    return first !== OPENING_BALANCE - moved || second !== OPENING_BALANCE + moved;
  });
  return {
    lost: reports.filter(({ id, outcome }) => outcome === 'applied' && !there.has(id)),
    doubled: [...repeated(ids), ...ids.filter((id) => outcomes.get(id) === 'not-applied')],
    wrong: wrong.length,
  };
}

/**
 * The sum tells what was made or lost; a wallet alone may only differ by transfers whose callers
 * were not told how they ended.
 */
function judgeWallets(reports: readonly ClusterReport[], state: ClusterState['wallets']) {
  const bounds = wallets.map(() => ({ least: OPENING_BALANCE, most: OPENING_BALANCE }));
  for (const { transfer, outcome } of reports) {
    if (!transfer || outcome === 'not-applied') continue;
    const { from, to, amount } = transfer;
    bounds[from]!.least -= amount;
    bounds[to]!.most += amount;
    if (outcome === 'unknown') continue;
    bounds[from]!.most -= amount;
    bounds[to]!.least += amount;
  }
  const sum = state.reduce((total, balance) => total + balance, 0);
  return {
    // Too much is in a wallet where what was taken from it was lost.
    lost: state.filter((balance, i) => balance < bounds[i]!.least || balance > bounds[i]!.most).length,
    doubled: 0,
    wrong: Math.abs(sum - wallets.length * OPENING_BALANCE),
  };
}

function judgeCounters(reports: readonly ClusterReport[], state: ClusterState['counters']) {
  const differences = counters.map((_, index) => {
    const of = reports.filter((report) => report.index === index);
    const least = of.filter(({ outcome }) => outcome === 'applied').length;
    const most = of.filter(({ outcome }) => outcome !== 'not-applied').length;
    const value = state[index] ?? 0;
    return { lost: Math.max(0, least - value), doubled: Math.max(0, value - most) };
  });
  return {
    lost: differences.reduce((sum, { lost }) => sum + lost, 0),
    doubled: differences.reduce((sum, { doubled }) => sum + doubled, 0),
  };
}

function judgeRuns(reports: readonly ClusterReport[], state: ClusterState['effects']) {
  const effects = effectLists.flatMap((_, i) =>
    state[i]!.map((line) => JSON.parse(line) as { key: string; answer: string }),
  );
  const there = new Set(effects.map(({ answer }) => answer));
  return {
    lost: reports.filter(({ id, outcome }) => outcome === 'applied' && !there.has(id)),
    doubled: repeated(effects.map(({ key }) => key)),
  };
}

function repeated(items: readonly string[]): string[] {
  const seen = new Set<string>();
  return items.filter((item) => seen.has(item) || !seen.add(item));
}

/**
 * Returns the violations by name. If masters die and calls do not wait for replicas, writes
 * acknowledged just before a death may be lost, and with them one half of a transfer between
 * wallets. The evidence of a call may be lost with its master.
 */
export function wrongOnCluster(
  { verdict, recovery, leftovers }: ClusterOutcome,
  { deaths, durable }: { deaths: boolean; durable: boolean },
): Readonly<Record<string, number>> {
  const mayLose = deaths && !durable;
  const { examples: _, ...kinds } = verdict;
  const of = ([on, kind]: [string, KindVerdict]): Record<string, number> => ({
    [`${on} doubled`]: kind.doubled,
    [`${on} unexpected`]: kind.unexpected,
    [`${on} lost otherwise`]: kind.lostOtherwise,
    [`${on} lost`]: mayLose ? 0 : kind.lost,
    [`${on} wrong`]: mayLose && on === 'wallets' ? 0 : kind.wrong,
    [`${on} unknown`]: deaths ? 0 : kind.unknown,
  });
  const all = Object.assign({}, ...Object.entries(kinds).map(of), {
    'not recovered': recovery.failed,
    // If the withdrawal was lost and the deposit was not, the target's decision stays.
    'left over': mayLose ? 0 : leftovers,
  }) as Record<string, number>;
  return Object.fromEntries(Object.entries(all).filter(([, times]) => times > 0));
}
