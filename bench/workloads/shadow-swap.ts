import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Finding, Result, Workload } from '../workload.js';

/** A line of the soak's table: what, value, bound, and whether it is met. */
const LINE = /^(.+?) {2,}([\d.]+) +((?:<|>|=|<=|>=) ?[\d.]+) +(ok|NOT MET)$/gm;

export const shadowSwap: Workload = {
  name: 'shadow-swap',
  title: 'Shadow swap of a large hash',
  about:
    'A hash of 1,000,000 fields is built aside and takes the place of as large a one, beside pipelined HSETs and a RENAME by hand, while other clients read: `npm run soak -- shadow-swap`.',
  bars: [],
  async run({ isShort }): Promise<Result> {
    const size = isShort ? ['--fields', '20000', '--rounds', '1', '--pause', '1'] : ['--rounds', '5'];
    const ran = promisify(execFile)(process.execPath, ['scripts/soak.mjs', 'shadow-swap', ...size]);
    // It fails where a bound is not met; that is for the table to say.
    const { stdout } = await ran.catch((error: { stdout: string }) => error);
    const findings = [...stdout.matchAll(LINE)].map(([, what, value, bound, verdict]): Finding => ({
      what: what!,
      value: `${value} (bar ${bound})`,
      reached: verdict === 'ok',
    }));
    if (findings.length === 0) throw new Error(`the soak of shadow swaps ended without figures: ${stdout}`);
    return { tables: [], findings };
  },
};
