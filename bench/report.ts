import { cpus } from 'node:os';
import type { Measured, Spread } from './harness.js';
import type { Bar, Result, Workload } from './workload.js';

interface Judgement {
  readonly bar: Bar;
  readonly callers: number;
  readonly ratio: number;
  readonly reached: boolean;
}

/** Ours beside the others, of the same run: the ratios of the medians. */
export function judged({ bars }: Workload, { tables }: Result): Judgement[] {
  return tables.flatMap(({ callers, measured }) => {
    const rateOf = (name: string): number | undefined =>
      measured.find((one) => one.name === name)?.opsPerSecond.median;
    return bars
      .filter(({ at }) => at?.includes(callers) ?? true)
      .map((bar) => {
        const ratio = rateOf(bar.contestant)! / rateOf(bar.against)!;
        return { bar, callers, ratio, reached: ratio >= bar.least };
      });
  });
}

/** For people at a terminal. */
export function table(workload: Workload, result: Result): string {
  const lines = [`\n${workload.title} (${workload.name})`, workload.about];
  for (const { callers, measured } of result.tables) {
    lines.push(
      '',
      row([`${callers} callers`, 'ops/s', 'half of them within', 'client µs', 'server µs', 'reads']),
    );
    for (const one of measured) lines.push(row(cellsOf(one)));
  }
  for (const { bar, callers, ratio, reached } of judged(workload, result))
    lines.push(
      `${reached ? 'reached' : 'MISSED '}  ${bar.contestant} at ${callers}: ${ratio.toFixed(2)} of ${bar.against} (bar ${bar.least})`,
    );
  for (const { what, value, reached } of result.findings ?? [])
    lines.push(`${reached === undefined ? '       ' : reached ? 'reached' : 'MISSED '}  ${what}: ${value}`);
  return lines.join('\n');
}

/** The same for bench/results.md. */
export function markdown(workload: Workload, result: Result): string {
  const lines = [`## ${workload.title}`, '', workload.about, ''];
  for (const { callers, measured } of result.tables) {
    lines.push(
      `| ${callers} ${callers === 1 ? 'caller' : 'callers'} | ops/s | half of the rounds within | client CPU, µs/op | server CPU, µs/op | reads/op |`,
      '| --- | --: | --: | --: | --: | --: |',
      ...measured.map((one) => `| ${cellsOf(one).join(' | ')} |`),
      '',
    );
  }
  const judgements = judged(workload, result);
  if (judgements.length > 0)
    lines.push(
      '| ours | callers | beside | ratio | bar | |',
      '| --- | --: | --- | --: | --: | --- |',
      ...judgements.map(
        ({ bar, callers, ratio, reached }) =>
          `| ${bar.contestant} | ${callers} | ${bar.against} | ${ratio.toFixed(2)} | ${bar.least} | ${reached ? 'reached' : '**missed**'} |`,
      ),
      '',
    );
  for (const { what, value, reached } of result.findings ?? [])
    lines.push(`- ${what}: ${value}${reached === undefined ? '' : reached ? ' (reached)' : ' (**missed**)'}`);
  return lines.join('\n');
}

/** The head of bench/results.md. */
export function heading(server: string, roundsOf: { rounds: number; roundMs: number }): string {
  const [cpu] = cpus();
  return [
    '# Results',
    '',
    `Written by \`npm run bench\` on ${new Date().toISOString().slice(0, 10)}: ${server}, Node ${process.version}, ${cpus().length} × ${cpu?.model ?? 'unknown'}, client and server on the same machine.`,
    `${roundsOf.rounds} rounds of ${roundsOf.roundMs} ms each, the contestants in turns. Rates are those of this machine; what carries over is the ratios, of medians. [How to read them](../docs/performance.md).`,
    '',
  ].join('\n');
}

const cellsOf = ({ name, opsPerSecond, clientCpuUs, serverCpuUs, reads }: Measured): string[] => [
  name,
  whole(opsPerSecond.median),
  `${whole(opsPerSecond.low)} – ${whole(opsPerSecond.high)}`,
  micros(clientCpuUs),
  micros(serverCpuUs),
  Number.isNaN(reads.median) ? '' : reads.median.toFixed(2),
];

const whole = (n: number): string => Math.round(n).toLocaleString('en');
const micros = ({ median }: Spread): string =>
  Number.isNaN(median) ? '' : median.toFixed(median < 10 ? 1 : 0);

const row = ([first, ...rest]: string[]): string =>
  first!.padEnd(42) + rest.map((cell, i) => cell.padStart(i === 1 ? 20 : 10)).join('');
