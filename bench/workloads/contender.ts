import { once } from 'node:events';
import { OURS } from '../workload.js';
import type { ContenderName, ContenderReport } from './contender-report.js';
import { ours } from './transactions.js';
import { lockLoop, nodeRedisLoop, type Incrementer } from './watch-loops.js';

const starts: Record<ContenderName, (url: string) => Promise<Incrementer>> = {
  [OURS]: ours,
  'node-redis, pool': (url) => nodeRedisLoop(url, 16),
  'redlock-universal': lockLoop,
};

const [, , name, url, callers, forMs] = process.argv as [
  string,
  string,
  ContenderName,
  string,
  string,
  string,
];
const incrementer = await starts[name](url);
process.send!('ready');
await once(process, 'message');

const attempts: number[] = [];
let longestMs = 0;
const cpuBefore = process.cpuUsage();
const end = performance.now() + Number(forMs);
const perCaller = await Promise.all(
  Array.from({ length: Number(callers) }, async () => {
    let made = 0;
    for (let now = performance.now(); now < end; made++) {
      attempts.push(await incrementer.increment('hot'));
      const after = performance.now();
      longestMs = Math.max(longestMs, after - now);
      now = after;
    }
    return made;
  }),
);
const cpu = process.cpuUsage(cpuBefore);
const report: ContenderReport = {
  operations: attempts.length,
  cpuUs: cpu.user + cpu.system,
  attempts,
  perCaller,
  longestMs,
};
await incrementer.close();
process.send!(report, () => process.disconnect());
