import { measure, spreadOf, type Contestant, type Measured } from './harness.js';
import { OURS, type Bar, type Bench, type Comparison, type Result, type Workload } from './workload.js';

/** Callers that find the rate at saturation. */
const CALLERS = 64;
/** A contestant that falls behind by so many calls cannot carry the rate. */
const MAX_BEHIND = 20_000;

/**
 * Latency at a fixed rate, half of what the floor carries at most. Calls begin by the clock,
 * whether or not earlier ones are answered, and a latency counts from the time at which its call
 * was due. So a contestant that stands still for a while pays for each call of that while.
 */
export function openLoop(subject: Comparison, bars: readonly Bar[]): Workload {
  return {
    name: `${subject.name}-open-loop`,
    group: 'open-loop',
    title: `${subject.title}: latency at a fixed rate`,
    about: `${subject.about} Calls begin at half of the rate at which the floor is saturated by ${CALLERS} callers, or ours where that is less, at random moments. A latency counts from when its call was due.`,
    bars,
    async run(bench: Bench): Promise<Result> {
      const { admin, settings } = bench;
      await admin.flushall();
      const contestants = await subject.start(bench);
      try {
        const rate = await halfOfSaturation(subject, contestants, bench);
        const all = new Map<Contestant, Latencies[]>(contestants.map((one) => [one, []]));
        for (const one of contestants) await openLoopOf(one, rate, settings.warmUpMs);
        for (let round = 0; round < settings.rounds; round++)
          for (let i = 0; i < contestants.length; i++) {
            const one = contestants[(round + i) % contestants.length]!;
            all.get(one)!.push(await openLoopOf(one, rate, settings.roundMs));
          }
        return {
          tables: [
            {
              callers: CALLERS,
              title: `${rate} calls a second`,
              rate: 'answered/s',
              measured: measuredOf(all),
            },
          ],
        };
      } finally {
        await Promise.all(contestants.map((contestant) => contestant.close()));
      }
    },
  };
}

async function halfOfSaturation(
  { floor, name }: Comparison,
  contestants: readonly Contestant[],
  { admin, settings }: Bench,
): Promise<number> {
  const judging = contestants.filter((one) => one.name === floor || one.name === OURS);
  if (judging.length < 2) throw new Error(`${name} has no floor`);
  const saturated = await measure(judging, CALLERS, admin, {
    ...settings,
    rounds: Math.min(3, settings.rounds),
  });
  return Math.round(Math.min(...saturated.map(({ opsPerSecond }) => opsPerSecond.median)) / 2);
}

interface Latencies {
  readonly answeredPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

let sequence = 2_000_000_000;

/**
 * Latencies of the calls that were due in that time; infinite where the contestant cannot keep up.
 */
async function openLoopOf({ op }: Contestant, perSecond: number, ms: number): Promise<Latencies> {
  const latencies: number[] = [];
  const startedAt = performance.now();
  const end = startedAt + ms;
  let due = startedAt;
  let begun = 0;
  let failure: unknown;
  const call = async (dueAt: number): Promise<void> => {
    try {
      await op(sequence++);
      latencies.push(performance.now() - dueAt);
    } catch (error) {
      failure ??= error;
      latencies.push(Infinity);
    }
  };
  await new Promise<void>((resolve) => {
    const turn = (): void => {
      const now = performance.now();
      // Calls that came due while the process was busy begin now, and their latency says so.
      while (due <= now && due < end) {
        begun++;
        void call(due);
        due += (-Math.log(1 - Math.random()) * 1_000) / perSecond;
      }
      if (due >= end || begun - latencies.length > MAX_BEHIND) resolve();
      else setImmediate(turn);
    };
    turn();
  });
  while (latencies.length < begun) await new Promise(setImmediate);
  // A peer that gives up under load says so by its latency.
  if (latencies.every((one) => one === Infinity)) throw failure;
  const seconds = (performance.now() - startedAt) / 1_000;
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (part: number): number => sorted[Math.ceil(sorted.length * part) - 1]!;
  return { answeredPerSecond: begun / seconds, p50Ms: at(0.5), p99Ms: at(0.99) };
}

const measuredOf = (all: ReadonlyMap<Contestant, readonly Latencies[]>): Measured[] =>
  [...all].map(([{ name }, rounds]) => ({
    name,
    opsPerSecond: spreadOf(rounds.map(({ answeredPerSecond }) => answeredPerSecond)),
    figures: {
      'p50, ms': spreadOf(rounds.map(({ p50Ms }) => p50Ms)),
      'p99, ms': spreadOf(rounds.map(({ p99Ms }) => p99Ms)),
    },
  }));
