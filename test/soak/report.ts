import type { BodiesReport } from './bodies.js';
import type { ClusterSoakReport } from './cluster.js';
import type { KindVerdict } from './cluster-verdict.js';
import type { FaultCount } from './faults.js';
import type { IdempotencySoakReport } from './idempotency.js';
import type { ProductionReport } from './production.js';
import type { SoakReport } from './transactions.js';

/** The report as a table for people. */
export function render(report: SoakReport): string {
  const { faults, struck, elapsedMs, applied, errors } = report;
  return [
    ...faultRows(faults, struck),
    '',
    row('applied', applied),
    row('not applied', report.notApplied),
    ...errorRows(errors),
    row('unknown', report.unknown),
    row('unexpected errors', report.unexpected),
    '',
    row('lost', report.lost),
    row('doubled', report.doubled),
    row('applied, reported not', report.appliedAllTheSame),
    row('applied, not reported', report.unreported),
    row('wrong balances', report.wrongBalances),
    row('sum before', report.sumBefore),
    row('sum after', report.sumAfter),
    '',
    ...timeRows('applied', applied, elapsedMs),
    ...report.examples.map((example) => `\n${example}`),
  ].join('\n');
}

/** Likewise. */
export function renderIdempotency(report: IdempotencySoakReport): string {
  const { faults, struck, elapsedMs, answers, errors } = report;
  return [
    ...faultRows(faults, struck),
    '',
    row('keys', report.keys),
    row('answers', answers),
    ...errorRows(errors),
    '',
    row('effects missing', report.missing),
    row('effects doubled', report.doubled),
    row('keys with other answers', report.contradicted),
    row('clients without an answer', report.unanswered),
    row('records left over', report.leftovers),
    '',
    ...timeRows('answers', answers, elapsedMs),
    ...[...report.examples, ...report.final.slice(0, 5)].map((example) => `\n${example}`),
  ].join('\n');
}

/** Likewise. */
export function renderBodies(report: BodiesReport): string {
  const { faults, struck, elapsedMs, applied, errors } = report;
  return [
    ...faultRows(faults, struck),
    '',
    row('transactions', report.transactions),
    row('applied', applied),
    row('not applied', report.notApplied),
    row('unknown', report.unknown),
    ...errorRows(errors),
    '',
    row('chains broken', report.broken),
    row('links missing', report.missing),
    row('links doubled', report.doubled),
    row('links that must not be', report.stray),
    '',
    ...timeRows('applied', applied, elapsedMs),
    ...report.unknowns.map((why) => `\nunknown ${why}`),
    ...report.examples.map((example) => `\n${example}`),
  ].join('\n');
}

/** Likewise. */
export function renderProduction(report: ProductionReport): string {
  return [
    row('recovered after, ms', 'times', 'p50', 'max', 'ioredis', 'max'),
    ...report.recoveries.map(({ fault, times, p50, max, plainP50, plainMax }) =>
      row(fault, times, p50, max, ...[plainP50, plainMax].map((ms) => (ms === Infinity ? 'none' : ms))),
    ),
    '',
    row('calls', 'applied', 'not', 'unknown', 'doubled', 'lost', 'other'),
    ...report.verdicts.map(({ kind, applied, notApplied, unknown, doubled, lost, unexpected }) =>
      row(kind, applied, notApplied, unknown, doubled, lost, unexpected),
    ),
    '',
    row('rounds', report.rounds),
    row('elapsed, s', (report.elapsedMs / 1_000).toFixed(1)),
    ...report.examples.map((example) => `\n${example}`),
  ].join('\n');
}

function faultRows(faults: readonly FaultCount[], struck: number): string[] {
  const injected = faults.reduce((sum, fault) => sum + fault.injected, 0);
  return [
    row('faults', 'injected', 'struck'),
    ...faults.map((fault) => row(fault.kind, fault.injected, fault.struck)),
    row('all', injected, struck),
  ];
}

const errorRows = (errors: Readonly<Record<string, number>>): string[] =>
  Object.entries(errors)
    .filter(([name]) => name !== 'none')
    .map(([name, times]) => row(`  ${name}`, times));

function timeRows(what: string, times: number, elapsedMs: number): string[] {
  const seconds = elapsedMs / 1_000;
  return [row('elapsed, s', seconds.toFixed(1)), row(`${what} per s`, Math.round(times / seconds))];
}

const row = (label: string, ...cells: (string | number)[]): string =>
  label.padEnd(28) + cells.map((cell) => String(cell).padStart(10)).join('');

/** Likewise. */
export function renderCluster(
  title: string,
  { verdict, recovery, leftovers, movedAtOnce, elapsedMs }: ClusterSoakReport,
): string {
  const { examples, ...kinds } = verdict;
  const columns = ['pair', 'wallets', 'counter', 'run'] as const;
  const line = (label: string, of: (kind: KindVerdict) => number) =>
    row(label, ...columns.map((kind) => of(kinds[kind])));
  return [
    row(title),
    row('', 'pairs', 'wallets', 'counters', 'requests'),
    line('calls', ({ calls }) => calls),
    line('applied', ({ applied }) => applied),
    line('  not on replicas in time', ({ notDurable }) => notDurable),
    line('not applied', ({ notApplied }) => notApplied),
    line('unknown', ({ unknown }) => unknown),
    line('unexpected errors', ({ unexpected }) => unexpected),
    line('lost', ({ lost }) => lost),
    line('  not by a master’s death', ({ lostOtherwise }) => lostOtherwise),
    line('doubled', ({ doubled }) => doubled),
    line('wrong balances, or units', ({ wrong }) => wrong),
    row('left to recovery', recovery.credited + recovery.refunded + recovery.failed),
    row('left over', leftovers),
    row('slots moved at once', movedAtOnce),
    ...timeRows(
      'calls',
      columns.reduce((sum, kind) => sum + kinds[kind].calls, 0),
      elapsedMs,
    ),
    ...examples.map((example) => `\n${example}`),
    '',
  ].join('\n');
}
