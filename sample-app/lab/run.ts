import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { FaultProxy } from 'nestjs-atomic-redis/testing';
import { percentile, requester, Tally } from './callers.js';
import { FAULTS, type LabFault } from './faults.js';
import type { RunDto } from './lab.dto.js';
import { SCENARIOS } from './scenarios/index.js';
import {
  SIDES,
  type Audit,
  type Outcome,
  type Race,
  type Scenario,
  type Side,
} from './scenarios/scenario.js';
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

/** Drives both sides at once and says every so often how they stand; at the end, what Redis holds. `gone` stops it. */
export async function* run(options: RunDto, bench: Bench, gone: AbortSignal): AsyncGenerator<RunEvent> {
  const scenario: Scenario = SCENARIOS[options.scenario];
  const tallies = { naive: new Tally(), atomic: new Tally() };
  const ending = new AbortController();
  const over = AbortSignal.any([gone, AbortSignal.timeout(RUN_MS)]);
  const closing = AbortSignal.any([over, ending.signal, AbortSignal.timeout(CALLS_MS)]);
  const calls = options.callers * scenario.callsPerCaller;
  try {
    const race = await scenario.begin({
      id: (side) => `${side}-${bench.number}`,
      calls,
      redis: bench.redis,
      closing,
      request: requester(bench.workers, tallies, over),
      accepted: (side) => tallies[side].outcomes.accepted,
    });
    const { arm }: LabFault = FAULTS[options.fault];
    const armed = arm?.(bench.proxy);
    const victim = options.fault === 'killed-worker' ? bench.workers[0] : undefined;

    const began = performance.now();
    const drive = async (side: Side): Promise<void> => {
      let next = 0;
      const caller = async (): Promise<void> => {
        while (next < calls && !closing.aborted) {
          await race.call(side, next++);
          tallies[side].callsDone += 1;
        }
      };
      await Promise.all(Array.from({ length: options.callers }, caller));
    };
    const callsDone = (): number => tallies.naive.callsDone + tallies.atomic.callsDone;
    const work = Promise.all([
      Promise.all(SIDES.map(drive)).finally(() => ending.abort()),
      ...SIDES.map(async (side) => await race.beside?.(side)),
      victim && killMidway(victim, race, () => callsDone() >= (2 * calls) / 3, closing),
    ]);
    // Whoever waits for it below gets it all the same.
    work.catch(() => {});

    const faults = (): number => armed?.count ?? (victim?.alive === false ? 1 : 0);
    const now = async (): Promise<RunEvent> => ({
      type: 'sample',
      atMs: Math.round(performance.now() - began),
      faults: faults(),
      ...(await eachSide((side) => sample(race, side, tallies[side]))),
    });
    do {
      yield await now();
    } while (!(await Promise.race([work.then(() => true), sleep(SAMPLE_MS, false)])));
    yield await now();

    const sides = await eachSide((side) => result(race, side, tallies[side]));
    const verdict = `Naive ${scenario.verdict(sides.naive)}. Atomic ${scenario.verdict(sides.atomic)}.`;
    yield { type: 'result', verdict, faults: faults(), ...sides };
  } finally {
    ending.abort();
  }
}

/** Once enough calls are done, and in the middle of something. */
async function killMidway(
  victim: Worker,
  race: Race,
  isTime: () => boolean,
  closing: AbortSignal,
): Promise<void> {
  while (!isTime() || !((await race.inTheMiddle?.()) ?? true)) {
    if (closing.aborted) return;
    await sleep(2);
  }
  victim.kill();
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
