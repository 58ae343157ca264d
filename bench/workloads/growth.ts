import type { Redis } from 'ioredis';
import { measure } from '../harness.js';
import { OURS, type Bench, type Comparison, type Finding, type Result, type Workload } from '../workload.js';
import { counterKeys } from './counters.js';
import { idempotentFirst } from './idempotency.js';
import { transactionDistinct } from './transactions.js';

const CALLERS = 64;
const EXISTING = { few: 1_000, many: 1_000_000 };
const PAST_OPERATIONS = 1_000_000;
/** By how much the ratio to the floor may move. */
const MAY_MOVE = 0.1;

const subjects: readonly Comparison[] = [counterKeys, idempotentFirst, transactionDistinct];

/** Other keys, of about the size of records. */
async function fill(admin: Redis, count: number): Promise<void> {
  await admin.flushall();
  const step = 10_000;
  for (let first = 0; first < count; first += step) {
    const pipeline = admin.pipeline();
    for (let i = first; i < Math.min(count, first + step); i++)
      pipeline.set(`existing:${i}`, 'x'.repeat(200), 'PX', 86_400_000);
    await pipeline.exec();
  }
}

/** Measures the ratio of our time to the floor's, with both in turns. */
async function ratio(subject: Comparison, bench: Bench, pastOperations = 0): Promise<number> {
  const contestants = await subject.start(bench);
  const floor = contestants.find(({ name }) => name === subject.floor)!;
  const ours = contestants.find(({ name }) => name === OURS)!;
  try {
    let done = 0;
    await Promise.all(
      Array.from({ length: CALLERS }, async () => {
        // Far from the numbers that the harness counts.
        while (done < pastOperations) await ours.op(1e12 + done++);
      }),
    );
    const [of, beside] = await measure([ours, floor], CALLERS, bench.admin, bench.settings);
    return of!.opsPerSecond.median / beside!.opsPerSecond.median;
  } finally {
    await Promise.all(contestants.map((contestant) => contestant.close()));
  }
}

async function growthOf(subject: Comparison, bench: Bench): Promise<Finding[]> {
  const scale = bench.isShort ? 0.001 : 1;
  await fill(bench.admin, EXISTING.few * scale);
  const few = await ratio(subject, bench);
  await fill(bench.admin, EXISTING.many * scale);
  const many = await ratio(subject, bench);
  await bench.admin.flushall();
  const late = await ratio(subject, bench, PAST_OPERATIONS * scale);
  const moved = (to: number): string =>
    `${few.toFixed(2)} to ${to.toFixed(2)}, by ${(((to - few) / few) * 100).toFixed(0)} %`;
  return [
    {
      what: `${subject.title}: ratio to the floor from 1,000 to 1,000,000 existing keys`,
      value: moved(many),
      reached: Math.abs(many - few) <= few * MAY_MOVE,
    },
    {
      what: `${subject.title}: from the first operation to after 1,000,000 of them`,
      value: moved(late),
      reached: Math.abs(late - few) <= few * MAY_MOVE,
    },
  ];
}

export const growth: Workload = {
  name: 'growth',
  title: 'Cost as work grows',
  about: `The ratio to the floor at ${CALLERS} callers, in the same run each, with few and many keys in Redis, and after many operations of the same process.`,
  bars: [],
  async run(bench): Promise<Result> {
    const findings: Finding[] = [];
    for (const subject of subjects) findings.push(...(await growthOf(subject, bench)));
    return { tables: [], findings };
  },
};
