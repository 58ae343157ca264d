import { cpus } from 'node:os';
import type { Figure, Measured, Settings, Spread } from './harness.js';
import type { Bar, Result, Table, Workload } from './workload.js';

interface Judgement {
  readonly bar: Bar;
  readonly callers: number;
  readonly ratio: number;
  readonly reached: boolean;
}

/** The cells of a table: a row of titles first. */
type Cells = string[][];

const SERVER_CPU: Figure = 'server CPU, µs/op';
const FIGURES: readonly Figure[] = [
  'client CPU, µs/op',
  SERVER_CPU,
  'reads/op',
  'commands/op',
  'server busy',
  'added to a bare endpoint, µs',
  'p50, ms',
  'p99, ms',
];

/** Ours beside the others, of the same run: the ratios of the medians. */
function judged({ bars }: Workload, { tables }: Result): Judgement[] {
  return tables.flatMap(({ callers, measured }) => {
    const valueOf = (name: string, bar: Bar): number => {
      const one = measured.find((candidate) => candidate.name === name);
      const spread = 'figure' in bar ? one?.figures[bar.figure] : one?.opsPerSecond;
      return spread?.median ?? Number.NaN;
    };
    return bars
      .filter(
        ({ at, contestant, against }) =>
          (at?.includes(callers) ?? true) &&
          [contestant, against].every((name) => measured.some((one) => one.name === name)),
      )
      .map((bar) => {
        const ratio = valueOf(bar.contestant, bar) / valueOf(bar.against, bar);
        return { bar, callers, ratio, reached: 'figure' in bar ? ratio <= bar.most : ratio >= bar.least };
      });
  });
}

const callersOf = (callers: number): string => `${callers} ${callers === 1 ? 'caller' : 'callers'}`;
const bound = (bar: Bar): string => ('figure' in bar ? `≤ ${bar.most}` : `≥ ${bar.least}`);
const subjectOf = (bar: Bar): string => ('figure' in bar ? bar.figure.replace(/, .*/, '') : 'rate');

function cellsOf({ callers, title = callersOf(callers), rate = 'ops/s', floor, measured }: Table): Cells {
  const figures = FIGURES.filter((figure) => measured.some((one) => one.figures[figure]));
  const ofFloor = measured.find(({ name }) => name === floor)?.figures[SERVER_CPU]?.median;
  const comparesCpu = ofFloor !== undefined && ofFloor > 0;
  const row = ({ name, opsPerSecond, figures: values }: Measured): string[] => [
    name,
    whole(opsPerSecond.median),
    `${whole(opsPerSecond.low)} – ${whole(opsPerSecond.high)}`,
    ...figures.flatMap((figure) => {
      const cell = textOf(figure, values[figure]);
      return figure === SERVER_CPU && comparesCpu
        ? [cell, ((values[figure]?.median ?? Number.NaN) / ofFloor).toFixed(2)]
        : [cell];
    }),
  ];
  const titles = figures.flatMap((figure) =>
    figure === SERVER_CPU && comparesCpu ? [figure, 'of the floor’s'] : [figure],
  );
  return [[title, rate, 'half of the rounds within', ...titles], ...measured.map(row)];
}

/** For people at a terminal. */
export function text(workload: Workload, result: Result): string {
  const lines = [`\n${workload.title} (${workload.name})`, workload.about];
  for (const table of result.tables) {
    const cells = cellsOf(table);
    const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
    const padded = (cell: string, i: number): string =>
      i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!);
    lines.push('', ...cells.map((row) => row.map(padded).join('  ')));
  }
  for (const { bar, callers, ratio, reached } of judged(workload, result))
    lines.push(
      `${reached ? 'reached' : 'MISSED '}  ${bar.contestant} at ${callers}: ${subjectOf(bar)} ${ratio.toFixed(2)} of ${bar.against} (bar ${bound(bar)})`,
    );
  for (const { what, value, reached } of result.findings ?? [])
    lines.push(`${reached === undefined ? '       ' : reached ? 'reached' : 'MISSED '}  ${what}: ${value}`);
  return lines.join('\n');
}

/** A section of bench/results.md. */
export function markdown(
  workload: Workload,
  result: Result,
  { server, settings }: { server: string; settings: Settings },
): string {
  const [cpu] = cpus();
  const lines = [
    workload.about,
    '',
    `${new Date().toISOString().slice(0, 10)}, ${server}, Node ${process.version}, ${cpus().length} × ${cpu?.model ?? 'unknown'}; ${settings.rounds} rounds of ${settings.roundMs} ms.`,
    '',
  ];
  for (const table of result.tables) {
    const [titles, ...rows] = cellsOf(table);
    lines.push(
      rowOf(titles!),
      rowOf(titles!.map((_, i) => (i === 0 ? '---' : '--:'))),
      ...rows.map(rowOf),
      '',
    );
  }
  const judgements = judged(workload, result);
  if (judgements.length > 0)
    lines.push(
      '| ours | callers | beside | of | ratio | bar | |',
      '| --- | --: | --- | --- | --: | --: | --- |',
      ...judgements.map(({ bar, callers, ratio, reached }) =>
        rowOf([
          bar.contestant,
          String(callers),
          bar.against,
          subjectOf(bar),
          ratio.toFixed(2),
          bound(bar),
          reached ? 'reached' : '**missed**',
        ]),
      ),
      '',
    );
  for (const { what, value, reached } of result.findings ?? [])
    lines.push(`- ${what}: ${value}${reached === undefined ? '' : reached ? ' (reached)' : ' (**missed**)'}`);
  return lines.join('\n').trimEnd();
}

const rowOf = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

function textOf(figure: Figure, spread: Spread | undefined): string {
  if (!spread || Number.isNaN(spread.median)) return '';
  const { median } = spread;
  switch (figure) {
    case 'server busy':
      return `${Math.round(median * 100)} %`;
    case 'reads/op':
    case 'commands/op':
    case 'p50, ms':
    case 'p99, ms':
      return median.toFixed(2);
    default:
      return median.toFixed(median < 10 ? 1 : 0);
  }
}

const whole = (n: number): string => Math.round(n).toLocaleString('en');
