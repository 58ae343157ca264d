import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { spreadOf, type Measured } from '../harness.js';
import { OURS, type Bench, type Finding, type Result, type Workload } from '../workload.js';
import { CONTENDERS, type ContenderName, type ContenderReport } from './contender-report.js';

const PROCESSES = 4;
const CALLERS = 16;

/** All in one round at the same time, each in a process of its own. */
async function contend(name: ContenderName, { url }: Bench, forMs: number): Promise<ContenderReport[]> {
  const script = fileURLToPath(new URL('contender.js', import.meta.url));
  const processes = Array.from({ length: PROCESSES }, () =>
    fork(script, [name, url, String(CALLERS), String(forMs)]),
  );
  await Promise.all(processes.map((child) => once(child, 'message')));
  const reports = processes.map((child) => once(child, 'message'));
  for (const child of processes) child.send('go');
  const results = (await Promise.all(reports)).map(([report]) => report as ContenderReport);
  await Promise.all(processes.map(async (child) => child.exitCode ?? (await once(child, 'exit'))));
  return results;
}

export const transactionContended: Workload = {
  name: 'transaction-contended',
  title: `Transaction, all on one key, ${PROCESSES} processes`,
  about: `${PROCESSES} processes with ${CALLERS} callers each change one key.`,
  bars: [{ contestant: OURS, against: 'node-redis, pool', least: 3 }],
  async run(bench): Promise<Result> {
    const { settings, admin } = bench;
    const rounds = Math.min(settings.rounds, 5);
    const forMs = Math.max(settings.roundMs, 300) * (bench.isShort ? 1 : 3);
    const all = new Map<ContenderName, ContenderReport[][]>(CONTENDERS.map((name) => [name, []]));
    for (let round = 0; round < rounds; round++) {
      for (let i = 0; i < CONTENDERS.length; i++) {
        const name = CONTENDERS[(round + i) % CONTENDERS.length]!;
        await admin.flushall();
        const reports = await contend(name, bench, forMs);
        const counted = Number(await admin.get('hot'));
        const told = reports.reduce((sum, { operations }) => sum + operations, 0);
        if (counted !== told)
          throw new Error(`${name}: ${told} increments were reported and ${counted} made`);
        all.get(name)!.push(reports);
      }
    }
    const measured: Measured[] = CONTENDERS.map((name) => ({
      name,
      opsPerSecond: spreadOf(all.get(name)!.map((reports) => sum(reports, 'operations') / (forMs / 1_000))),
      figures: {
        'client CPU, µs/op': spreadOf(
          all.get(name)!.map((reports) => sum(reports, 'cpuUs') / sum(reports, 'operations')),
        ),
      },
    }));
    return {
      tables: [{ callers: PROCESSES * CALLERS, measured }],
      findings: CONTENDERS.flatMap((name) => fairness(name, all.get(name)!.flat())),
    };
  },
};

function fairness(name: ContenderName, reports: readonly ContenderReport[]): Finding[] {
  const attempts = reports.flatMap((report) => report.attempts).toSorted((a, b) => a - b);
  const p99 = attempts[Math.floor((attempts.length - 1) * 0.99)]!;
  const longest = Math.max(...reports.map(({ longestMs }) => longestMs));
  const least = Math.min(...reports.flatMap(({ perCaller }) => perCaller));
  const isOurs = name === OURS;
  return [
    {
      what: `${name}: attempts at the 99th percentile`,
      value: String(p99),
      ...(isOurs && { reached: p99 <= 10 }),
    },
    {
      what: `${name}: increments of the caller that had fewest, and the longest wait for one`,
      value: `${least}, ${Math.round(longest)} ms`,
      ...(isOurs && { reached: least > 0 }),
    },
  ];
}

const sum = (reports: readonly ContenderReport[], of: 'operations' | 'cpuUs'): number =>
  reports.reduce((total, report) => total + report[of], 0);
