import type { ModelName, Operation } from './history.js';
import { checkEachKey, lossesOfKey, type LossWindow } from './linearizability.js';
import { checkListAppend } from './list-append.js';
import { boundedCounter, register } from './models.js';

/** The verdict on a history. */
export interface HistoryVerdict {
  readonly operations: number;
  /** Number of operations with each outcome. */
  readonly outcomes: Readonly<Record<Operation['outcome'], number>>;
  /** For each model: how many operations on how many keys were judged. */
  readonly judged: Readonly<Record<string, { readonly operations: number; readonly keys: number }>>;
  /** Dependencies of transactions on each other by data. */
  readonly dependencies: number;
  /** Pairs of transactions in an order of real time. */
  readonly realTime: number;
  /** Acknowledged transactions that were lost, where that may be. */
  readonly lost: number;
  /** The anomalies that no order explains; none where all is well. */
  readonly anomalies: readonly string[];
  /** The registers and counters for which the search came to no end. */
  readonly undecided: readonly string[];
  readonly elapsedMs: number;
}

/** Judges all that was recorded of registers, counters and lists. */
export function judgeHistory(
  history: readonly Operation[],
  losses: readonly LossWindow[] = [],
): HistoryVerdict {
  const startedAt = performance.now();
  const outcomes = { ok: 0, applied: 0, 'not-applied': 0, unknown: 0 };
  for (const { outcome } of history) outcomes[outcome]++;
  const of = (model: Operation['model']) => history.filter((operation) => operation.model === model);
  const transactions = checkListAppend(of('list-append'), { losses });
  const anomalies = transactions.anomalies.map(({ kind, about }) => `${kind}: ${about}`);
  const undecided: string[] = [];
  const judged: Record<string, { operations: number; keys: number }> = {
    'list-append': { operations: transactions.transactions, keys: transactions.lists },
  };
  const optionsOf = (key: string) => ({ losses: lossesOfKey(losses, key) });
  const objects = {
    register: checkEachKey(of('register'), register, optionsOf),
    counter: checkEachKey(of('counter'), boundedCounter, optionsOf),
  };
  for (const [model, verdicts] of Object.entries(objects)) {
    judged[model] = { operations: 0, keys: verdicts.size };
    for (const [key, { verdict, operations, stuck }] of verdicts) {
      judged[model].operations += operations;
      if (verdict === 'undecided') undecided.push(`${model} ${key}`);
      if (verdict === 'not-linearizable')
        anomalies.push(`${model} ${key}: not linearizable after ${JSON.stringify(stuck)}`);
    }
  }
  return {
    operations: history.length,
    outcomes,
    judged,
    dependencies: transactions.dependencies,
    realTime: transactions.realTime,
    lost: transactions.lost,
    anomalies,
    undecided,
    elapsedMs: performance.now() - startedAt,
  };
}

/** The verdict as lines for people. */
export function renderHistory(verdict: HistoryVerdict): string {
  const { operations, outcomes, judged, dependencies, realTime, lost, anomalies, undecided, elapsedMs } =
    verdict;
  const ends = Object.entries(outcomes).map(([outcome, times]) => `${times} ${outcome}`);
  return [
    `history: ${operations} operations: ${ends.join(', ')}`,
    ...Object.entries(judged)
      .filter(([, of]) => of.operations > 0)
      .map(([model, of]) => `  ${model}: ${of.operations} operations on ${of.keys} keys`),
    `  transactions: ${dependencies} dependencies by data, ${realTime} by real time alone`,
    `  ${lost} acknowledged ones lost in a window of loss`,
    `  judged in ${(elapsedMs / 1_000).toFixed(1)} s: ${anomalies.length} anomalies, ${undecided.length} undecided`,
    ...anomalies.slice(0, 10).map((anomaly) => `  ANOMALY ${anomaly.slice(0, 2_000)}`),
    ...undecided.slice(0, 10).map((key) => `  UNDECIDED ${key}`),
  ].join('\n');
}

/**
 * Lists the reasons that keep a history from being explained: anomalies, keys that are undecided,
 * and models of which fewer operations were judged than given. An empty history explains nothing.
 */
export function wrongInHistory(
  { anomalies, undecided, judged }: HistoryVerdict,
  least: Readonly<Partial<Record<ModelName, number>>> = {},
): string[] {
  const isEmpty = Object.values(judged).every(({ operations }) => operations === 0);
  const few = Object.entries(least).filter(([model, count]) => judged[model]!.operations < count);
  return [
    ...anomalies,
    ...undecided.map((key) => `undecided: ${key}`),
    ...(isEmpty ? ['nothing was judged'] : []),
    ...few.map(([model, count]) => `${model}: ${judged[model]!.operations} operations, not ${count}`),
  ];
}

export const isExplained = (verdict: HistoryVerdict): boolean => wrongInHistory(verdict).length === 0;
