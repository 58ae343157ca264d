import type { SoakReport } from './transactions.js';

/** The report as a table for people. */
export function render(report: SoakReport): string {
  const { faults, struck, elapsedMs, applied, errors } = report;
  const injected = faults.reduce((sum, fault) => sum + fault.injected, 0);
  const seconds = elapsedMs / 1_000;
  return [
    row('faults', 'injected', 'struck'),
    ...faults.map((fault) => row(fault.kind, fault.injected, fault.struck)),
    row('all', injected, struck),
    '',
    row('applied', applied),
    row('not applied', report.notApplied),
    ...Object.entries(errors)
      .filter(([name]) => name !== 'none')
      .map(([name, times]) => row(`  ${name}`, times)),
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
    row('elapsed, s', seconds.toFixed(1)),
    row('applied per s', Math.round(applied / seconds)),
    ...report.examples.map((example) => `\n${example}`),
  ].join('\n');
}

const row = (label: string, ...cells: (string | number)[]): string =>
  label.padEnd(28) + cells.map((cell) => String(cell).padStart(10)).join('');
