import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { spreadOf } from '../harness.js';
import type { Finding, Result, Workload } from '../workload.js';

const SHOP = fileURLToPath(new URL('../../sample-app/main.js', import.meta.url));
const SCENARIOS = ['withdraw', 'counter', 'stock', 'order-retry'] as const;
const ROUNDS = 3;
const SIDES = ['naive', 'byHand', 'atomic'] as const;
/** Ours beside the naive side, which is fast because it loses updates. */
const MOST = 2;

interface Side {
  readonly p50Ms: number;
  readonly p95Ms: number;
}

type Run = Record<(typeof SIDES)[number], Side>;

async function race(url: string, scenario: string, isShort: boolean): Promise<Run> {
  const response = await fetch(`${url}/lab/runs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      scenario,
      callers: isShort ? 5 : 200,
      fault: 'none',
      ...(isShort && { forMs: 300 }),
    }),
  });
  const lines = (await response.text()).split('\n').filter((line) => line.startsWith('data: '));
  const last = JSON.parse(lines.at(-1)!.slice('data: '.length)) as Run & { type: string };
  if (last.type !== 'result') throw new Error(`The race ended without a result: ${JSON.stringify(last)}`);
  return last;
}

function finding(scenario: string, runs: readonly Run[]): Finding {
  const of = (side: keyof Run, figure: keyof Side): number =>
    spreadOf(runs.map((run) => run[side][figure])).median;
  const text = (side: keyof Run): string =>
    `${of(side, 'p50Ms').toFixed(0)} / ${of(side, 'p95Ms').toFixed(0)}`;
  const ratio = of('atomic', 'p95Ms') / of('naive', 'p95Ms');
  return {
    what: `${scenario}: p50 / p95 in ms of ours`,
    value: `${text('atomic')}, naive ${text('naive')}, by hand ${text('byHand')}; p95 ${ratio.toFixed(2)} of the naive side's (bar ≤ ${MOST})`,
    reached: ratio <= MOST,
  };
}

/** The latency that the lab shows, through the lab itself. */
export const raceLab: Workload = {
  name: 'race-lab',
  title: 'Latency in the race lab',
  about:
    '200 callers of each side at once on one key, over HTTP to two processes of the shop, as the page of the lab has it; three runs each, medians. The naive side waits for nothing, and loses updates.',
  bars: [],
  async run({ isShort }): Promise<Result> {
    const shop = fork(SHOP, {
      env: { ...process.env, PORT: '0' },
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    });
    try {
      let output = '';
      let url: string | undefined;
      const { stdout } = shop;
      for await (const chunk of stdout!.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
        output += chunk as string;
        url = /^Shop: (\S+)$/m.exec(output)?.[1];
        if (url) break;
      }
      stdout!.resume();
      if (!url) throw new Error(`The shop did not start:\n${output}`);
      const findings: Finding[] = [];
      for (const scenario of isShort ? SCENARIOS.slice(0, 1) : SCENARIOS) {
        const runs: Run[] = [];
        for (let round = 0; round < (isShort ? 1 : ROUNDS); round++)
          runs.push(await race(url, scenario, isShort));
        findings.push(finding(scenario, runs));
      }
      return { tables: [], findings };
    } finally {
      const exited = once(shop, 'exit');
      if (shop.exitCode === null) {
        shop.disconnect();
        await exited;
      }
    }
  },
};
