import { ACCOUNTS, OPENING_BALANCE, parseEntry } from './bank.js';
import type { CallReport } from './calls.js';

export interface Verdict {
  readonly applied: number;
  readonly notApplied: number;
  readonly unknown: number;
  /** Errors that do not say what they mean. */
  readonly unexpected: number;
  /** Reported as applied, and not in the audit. */
  readonly lost: number;
  /** More than once in the audit. */
  readonly doubled: number;
  /** Reported as not applied, and in the audit. */
  readonly appliedAllTheSame: number;
  /** In the audit, and reported by no caller. */
  readonly unreported: number;
  readonly sumBefore: number;
  readonly sumAfter: number;
  /** Accounts whose balance is not what the transfers in the audit come to. */
  readonly wrongBalances: number;
  /** Number of reports of each error. */
  readonly errors: Readonly<Record<string, number>>;
  /** Details of some calls that should not have ended as they did. */
  readonly examples: readonly string[];
}

const EXAMPLES = 5;

/** Holds what the calls reported against what Redis has. */
export function judge(
  reports: readonly CallReport[],
  audit: readonly string[],
  balances: readonly number[],
): Verdict {
  const expected = Array.from({ length: ACCOUNTS }, () => OPENING_BALANCE);
  const times = new Map<string, number>();
  for (const line of audit) {
    const { id, transfer } = parseEntry(line);
    times.set(id, (times.get(id) ?? 0) + 1);
    if (!transfer) continue;
    expected[transfer.from]! -= transfer.amount;
    expected[transfer.to]! += transfer.amount;
  }
  const outcomes = new Map(reports.map(({ id, outcome }) => [id, outcome]));
  const errors: Record<string, number> = {};
  for (const { error } of reports) errors[error] = (errors[error] ?? 0) + 1;
  const count = (outcome: CallReport['outcome']) => reports.filter((one) => one.outcome === outcome).length;
  const wrong = {
    lost: reports.filter(({ id, outcome }) => outcome === 'applied' && !times.has(id)),
    appliedAllTheSame: reports.filter(({ id, outcome }) => outcome === 'not-applied' && times.has(id)),
    doubled: [...times].filter(([, n]) => n > 1),
  };
  return {
    applied: count('applied'),
    notApplied: count('not-applied'),
    unknown: count('unknown'),
    unexpected: count('unexpected'),
    lost: wrong.lost.length,
    doubled: wrong.doubled.length,
    appliedAllTheSame: wrong.appliedAllTheSame.length,
    unreported: [...times.keys()].filter((id) => !outcomes.has(id)).length,
    sumBefore: ACCOUNTS * OPENING_BALANCE,
    sumAfter: balances.reduce((sum, balance) => sum + balance, 0),
    wrongBalances: balances.filter((balance, account) => balance !== expected[account]).length,
    errors,
    examples: [
      ...wrong.lost.map(({ id }) => `lost: ${id}`),
      ...wrong.doubled.map(([id]) => `doubled: ${id}, reported ${outcomes.get(id)}`),
      ...wrong.appliedAllTheSame.map(({ id, error }) => `applied all the same: ${id}, reported ${error}`),
      ...reports.flatMap(({ id, details }) => (details ? [`${id}: ${details}`] : [])),
    ].slice(0, EXAMPLES),
  };
}

/** True if every call reported its real outcome. */
export function isClean(verdict: Verdict): boolean {
  const { unknown, unexpected, lost, doubled, appliedAllTheSame, unreported, wrongBalances } = verdict;
  const wrong = [unknown, unexpected, lost, doubled, appliedAllTheSame, unreported, wrongBalances];
  return wrong.every((n) => n === 0) && verdict.sumBefore === verdict.sumAfter;
}
