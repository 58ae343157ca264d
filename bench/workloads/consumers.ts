import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Redis } from 'ioredis';
import { spreadOf } from '../harness.js';
import type { Bench, Finding, Result, Workload } from '../workload.js';
import type { ConsumerNumbers, ConsumerTask } from './consumer-process.js';

const CONTESTANTS = ['ours', 'bullmq'] as const;
const ROUNDS = 7;

/** A difference that the machine alone makes from one run to the next. */
const NOISE = 1.03;

/**
 * Commands of consumers that wait, in ten seconds, and what a waiting job takes of the memory, in
 * bytes.
 */
const IDLE = 'idle, commands/s';
const MEMORY = 'memory of a waiting job, bytes';

/** Runs a process of its own, so that no contestant pays for the other. */
async function withProcess<T>(
  how: 'measure' | 'fill' | 'idle',
  task: ConsumerTask,
  use: (answer: unknown) => Promise<T> | T,
): Promise<T> {
  const child = fork(fileURLToPath(new URL('consumer-process.js', import.meta.url)), [
    how,
    JSON.stringify(task),
  ]);
  try {
    const died = once(child, 'exit').then(() =>
      Promise.reject(new Error(`The process of ${task.contestant} ended`)),
    );
    const [answer] = (await Promise.race([once(child, 'message'), died])) as [unknown];
    died.catch(() => undefined);
    return await use(answer);
  } finally {
    child.kill('SIGKILL');
  }
}

async function numberIn(admin: Redis, section: string, pattern: RegExp): Promise<number> {
  const found = (await admin.info(section)).matchAll(pattern);
  return [...found].reduce((sum, [, value]) => sum + Number(value), 0);
}

const usedMemory = (admin: Redis): Promise<number> => numberIn(admin, 'memory', /^used_memory:(\d+)/gm);
/** But for those of scripts, which the server counts as well as their callers. */
const commands = (admin: Redis): Promise<number> =>
  numberIn(admin, 'commandstats', /^cmdstat_(?:bzpopmin|blmove|evalsha|eval|ping|fcall)[^:]*:calls=(\d+)/gm);

async function standing(task: ConsumerTask, { admin, isShort }: Bench): Promise<ConsumerNumbers> {
  await admin.flushall();
  const before = await usedMemory(admin);
  const memory = await withProcess('fill', task, async () => {
    const filled = await usedMemory(admin);
    return (filled - before) / task.jobs;
  });
  await admin.flushall();
  const idleMs = isShort ? 100 : 10_000;
  const idle = await withProcess('idle', task, async () => {
    await sleep(isShort ? 0 : 2_000);
    const first = await commands(admin);
    await sleep(idleMs);
    return ((await commands(admin)) - first) / (idleMs / 1_000);
  });
  return { [MEMORY]: memory, [IDLE]: idle };
}

/** Ours beside BullMQ's; more is better of what is done in a second, less of all else. */
function compare(what: string, of: Record<(typeof CONTESTANTS)[number], number[]>): Finding {
  const [our, their] = [spreadOf(of.ours), spreadOf(of.bullmq)];
  const reached =
    what.includes('jobs/s,') || !what.endsWith('jobs/s')
      ? our.median <= their.median * NOISE
      : our.median >= their.median / NOISE;
  const text = ({ median, low, high }: typeof our): string => {
    const digits = median < 10 ? 2 : 0;
    return `${median.toFixed(digits)} (${low.toFixed(digits)}–${high.toFixed(digits)})`;
  };
  return { what, value: `${text(our)} beside BullMQ's ${text(their)}`, reached };
}

export const consumers: Workload = {
  name: 'queue-consumers',
  title: 'Queue: consumers',
  about:
    'A process that pushes jobs and consumes them, 50 at a time: throughput, the delay from push to handler, CPU time of the process, memory, commands of a process that waits. ' +
    `The contestants by turns, each time in a new process, ${ROUNDS} times; medians and the range that half of them lie in.`,
  bars: [],
  async run(bench): Promise<Result> {
    const { url, port, admin, isShort } = bench;
    const rounds = isShort ? 1 : ROUNDS;
    const numbers = new Map<string, Record<(typeof CONTESTANTS)[number], number[]>>();
    for (let round = 0; round < rounds; round++)
      for (const contestant of round % 2 ? CONTESTANTS.toReversed() : CONTESTANTS) {
        const task = { contestant, url, port, jobs: isShort ? 100 : 20_000, rateMs: isShort ? 100 : 10_000 };
        await admin.flushall();
        const measured = await withProcess('measure', task, (answer) => answer as ConsumerNumbers);
        const stood = round === 0 ? await standing(task, bench) : {};
        for (const [what, value] of Object.entries({ ...measured, ...stood })) {
          const of = numbers.get(what) ?? { ours: [], bullmq: [] };
          of[contestant].push(value);
          numbers.set(what, of);
        }
      }
    return { tables: [], findings: [...numbers].map(([what, of]) => compare(what, of)) };
  },
};
