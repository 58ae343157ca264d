import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { FaultProxy } from 'nestjs-atomic-redis/testing';
import { percentile, requester, Tally } from './callers.js';
import { FAULTS, type LabFault } from './faults.js';
import type { RunDto } from './lab.dto.js';
import { SCENARIOS } from './scenarios/index.js';
import { SIDES, type Audit, type Outcome, type Race, type Scenario, type Side } from './scenarios/scenario.js';
import type { Worker } from './workers.js';

const SAMPLE_MS = 100;
/** No call begins later. */
const CALLS_MS = 8_000;
/** What is still without an answer then is given up. */
const RUN_MS = 12_000;

export interface SideSample extends Record<Outcome, number> {
  lost: number;
  oversold: number | null;
  /** Of the answers since the sample before; null when there were none. */
  p95Ms: number | null;
}

export interface SideResult extends Audit, Record<Outcome, number> {
  p50Ms: number | null;
  p95Ms: number | null;
}

export type RunEvent =
  | { type: 'sample'; atMs: number; faults: number; naive: SideSample; atomic: SideSample }
  | { type: 'result'; verdict: string; faults: number; naive: SideResult; atomic: SideResult };

export interface Bench {
  /** Of no other run. */
  number: number;
  /** Straight to Redis, into the database that the workers use. */
  redis: Redis;
  proxy: FaultProxy;
  workers: readonly Worker[];
}

/** Drives both sides at once and says every so often how they stand; at the end, what Redis holds. Who stops listening stops it. */
export async function* run({ scenario, callers, fault }: RunDto, bench: Bench): AsyncGenerator<RunEvent> {
  const { callsPerCaller, begin, verdict }: Scenario = SCENARIOS[scenario];
  const tallies = { naive: new Tally(), atomic: new Tally() };
  const closing = new AbortController();
  const over = new AbortController();
  const calls = callers * callsPerCaller;
  const race = await begin({
    id: (side) => `${side}-${bench.number}`,
    calls,
    redis: bench.redis,
    closing: closing.signal,
    request: requester(bench.workers, tallies, over.signal),
    accepted: (side) => tallies[side].outcomes.accepted,
  });

  const { arm }: LabFault = FAULTS[fault];
  const armed = arm?.(bench.proxy);
  const timers = [
    setTimeout(() => closing.abort(), CALLS_MS),
    setTimeout(() => over.abort(), RUN_MS),
  ];
  const began = performance.now();
  try {
    const callersOf = async (side: Side): Promise<void> => {
      let next = 0;
      const caller = async (): Promise<void> => {
        while (next < calls && !closing.signal.aborted) {
          await race.call(side, next++);
          tallies[side].callsDone += 1;
        }
      };
      await Promise.all(Array.from({ length: callers }, caller));
    };
    let killed = 0;
    const killer = async (): Promise<void> => {
      const third = (): boolean =>
        tallies.naive.callsDone + tallies.atomic.callsDone >= (2 * calls) / 3;
      while (!third() || !((await race.inTheMiddle?.()) ?? true)) {
        if (closing.signal.aborted) return;
        await sleep(2);
      }
      bench.workers[0]!.kill();
      killed = 1;
    };
    const beside = Promise.all(SIDES.map((side) => race.beside?.(side)));
    const all = Promise.all(SIDES.map(callersOf)).finally(() => closing.abort());
    const work = Promise.all([all, beside, fault === 'killed-worker' && killer()]);

    const faults = (): number => armed?.count ?? killed;
    let isDone = false;
    const done = work.finally(() => (isDone = true));
    done.catch(() => {});
    while (!isDone) {
      yield {
        type: 'sample',
        atMs: Math.round(performance.now() - began),
        faults: faults(),
        ...(await eachSide((side) => sample(race, side, tallies[side]))),
      };
      await Promise.race([done, sleep(SAMPLE_MS)]);
    }
    await done;

    const sides = await eachSide((side) => result(race, side, tallies[side]));
    yield {
      type: 'result',
      verdict: `Naive ${verdict(sides.naive)}. Atomic ${verdict(sides.atomic)}.`,
      faults: faults(),
      ...sides,
    };
  } finally {
    timers.forEach(clearTimeout);
    closing.abort();
    over.abort();
  }
}

async function eachSide<T>(ask: (side: Side) => Promise<T>): Promise<Record<Side, T>> {
  const [naive, atomic] = await Promise.all([ask('naive'), ask('atomic')]);
  return { naive, atomic };
}

async function sample(race: Race, side: Side, tally: Tally): Promise<SideSample> {
  // As they were when Redis was asked.
  const outcomes = { ...tally.outcomes };
  const p95Ms = tally.latestP95Ms();
  const { lost, oversold } = await race.audit(side);
  return { ...outcomes, p95Ms, lost, oversold };
}

async function result(race: Race, side: Side, tally: Tally): Promise<SideResult> {
  const { outcomes, latenciesMs } = tally;
  return {
    ...outcomes,
    p50Ms: percentile(latenciesMs, 0.5),
    p95Ms: percentile(latenciesMs, 0.95),
    ...(await race.audit(side)),
  };
}
