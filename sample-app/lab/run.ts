import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { percentile, requester, Tally } from './callers.js';
import type { FakeProvider } from '../payment-provider/fake-provider.js';
import { FAULTS, type LabFault } from './faults.js';
import type { FaultyRedis } from './faulty-redis.js';
import type { RunDto } from './lab.dto.js';
import { SCENARIOS } from './scenarios/index.js';
import {
  SIDES,
  totalOf,
  type Audit,
  type Outcome,
  type Race,
  type Scenario,
  type Side,
} from './scenarios/scenario.js';
import { CALLS_MS, GRACE_MS } from './limits.js';
import type { Worker } from './workers.js';

const SAMPLE_MS = 100;

export interface SideSample extends Audit, Record<Outcome, number> {
  /** The sum of all that is wrong. */
  total: number;
  /** Latency of the answers since the previous sample; null when there were none. */
  p95Ms: number | null;
}

export interface SideResult extends SideSample {
  p50Ms: number | null;
  /** Ends the sentence "This side …". */
  verdict: string;
  callsDone: number;
}

/** The number of each kind, by its label. */
export type Faults = Record<string, number>;

export type RunEvent =
  | ({ type: 'sample'; atMs: number; faults: Faults } & Record<Side, SideSample>)
  | ({
      type: 'result';
      faults: Faults;
      /** Calls that each side was to make. */
      calls: number;
      /**
       * Seconds after which the run was cut short, with calls left on some side; null where every
       * call was made.
       */
      cutShortAfterS: number | null;
    } & Record<Side, SideResult>);

export interface Bench {
  /** The number of this run; no other run has it. */
  number: number;
  /** Straight to Redis, into the database that the workers use. */
  redis: Redis;
  faulty: FaultyRedis;
  provider: FakeProvider;
  workers: readonly Worker[];
}

/**
 * Drives all sides at once and tells every so often how they stand; at the end, what Redis holds.
 * `gone` stops it.
 */
export async function* run(options: RunDto, bench: Bench, gone: AbortSignal): AsyncGenerator<RunEvent> {
  const scenario: Scenario = SCENARIOS[options.scenario];
  const tallies = { naive: new Tally(), byHand: new Tally(), atomic: new Tally() };
  /** No call begins any more. */
  const ending = new AbortController();
  const callsMs = options.forMs ?? CALLS_MS;
  /** No answer is waited for any more. */
  const over = new AbortController();
  const endAll = (): void => {
    ending.abort();
    over.abort();
  };
  const timers = [setTimeout(() => ending.abort(), callsMs), setTimeout(endAll, callsMs + GRACE_MS)];
  gone.addEventListener('abort', endAll, { once: true });
  if (gone.aborted) endAll();
  const calls = options.callers * scenario.callsPerCaller;
  const chosen: LabFault = FAULTS[options.fault];
  const victim = bench.workers[0]!;
  const faults: Faults = {};
  try {
    const race = await scenario.begin({
      id: (side) => `${side}-${bench.number}`,
      calls,
      redis: bench.redis,
      provider: bench.provider,
      victim,
      kills: chosen.strike === 'kill',
      closing: ending.signal,
      request: requester(bench.workers, tallies, over.signal),
      counts: (side) => tallies[side].counts,
    });
    if (chosen.arm) await bench.faulty.arm(options.fault);

    const began = performance.now();
    const drive = async (side: Side): Promise<void> => {
      let next = 0;
      const caller = async (): Promise<void> => {
        while (next < calls && !ending.signal.aborted) {
          await race.call(side, next++);
          tallies[side].callsDone += 1;
        }
      };
      await Promise.all(Array.from({ length: options.callers }, caller));
    };
    const strike = async (fault: LabFault, isTime: () => boolean): Promise<void> => {
      if (!(await momentFor(race, isTime, ending.signal))) return;
      faults[fault.label] = 1;
      await strikeAt(victim, fault, race);
    };
    /**
     * The scenario's own fault strikes as soon as it can, the chosen one once enough calls are
     * done.
     */
    const strikeAll = async (): Promise<void> => {
      const isTime = (): boolean => callsDone() >= calls;
      if (scenario.fault) await strike(scenario.fault, () => true);
      if (chosen.strike && victim.alive) await strike(chosen, isTime);
    };
    const callsDone = (): number => SIDES.reduce((sum, side) => sum + tallies[side].callsDone, 0);
    const work = Promise.all([
      Promise.all(SIDES.map(drive)).finally(() => ending.abort()),
      ...SIDES.map(async (side) => await race.beside?.(side)),
      strikeAll(),
    ]);
    // Its failure is thrown where it is awaited below.
    work.catch(() => {});

    const faultsSoFar = async (): Promise<Faults> => ({
      ...faults,
      ...(chosen.arm && { [chosen.label]: await bench.faulty.count() }),
    });
    const now = async (): Promise<RunEvent> => ({
      type: 'sample',
      atMs: Math.round(performance.now() - began),
      faults: await faultsSoFar(),
      ...(await eachSide((side) => sample(race, side, tallies[side]))),
    });
    do {
      yield await now();
    } while (!(await Promise.race([work.then(() => true), sleep(SAMPLE_MS, false)])));
    yield await now();

    const sides = await eachSide((side) => result(scenario, race, side, tallies[side]));
    const isCutShort = SIDES.some((side) => sides[side].callsDone < calls);
    const cutShortAfterS = isCutShort ? callsMs / 1_000 : null;
    yield { type: 'result', faults: await faultsSoFar(), calls, cutShortAfterS, ...sides };
  } finally {
    timers.forEach(clearTimeout);
    gone.removeEventListener('abort', endAll);
    ending.abort();
  }
}

/**
 * True once it is time and the race is in the middle of something; false where that never comes.
 */
async function momentFor(race: Race, isTime: () => boolean, closing: AbortSignal): Promise<boolean> {
  while (!isTime() || !((await race.inTheMiddle?.()) ?? true)) {
    if (closing.aborted) return false;
    await sleep(2);
  }
  return true;
}

/** Kills the process, or stops it and wakes it when the race allows. */
async function strikeAt(victim: Worker, { strike }: LabFault, race: Race): Promise<void> {
  if (strike === 'kill') victim.kill();
  const wake = strike === 'stop' ? await victim.stop() : undefined;
  try {
    await race.struck?.();
  } finally {
    await wake?.();
  }
}

async function eachSide<T>(ask: (side: Side) => Promise<T>): Promise<Record<Side, T>> {
  const entries = SIDES.map(async (side) => [side, await ask(side)] as const);
  return Object.fromEntries(await Promise.all(entries)) as Record<Side, T>;
}

async function sample(race: Race, side: Side, tally: Tally): Promise<SideSample> {
  // As they were when Redis was asked.
  const outcomes = { ...tally.outcomes };
  const p95Ms = tally.latestP95Ms();
  const audit = await race.audit(side);
  return { ...outcomes, ...audit, total: totalOf(audit), p95Ms };
}

async function result(scenario: Scenario, race: Race, side: Side, tally: Tally): Promise<SideResult> {
  const { outcomes, latenciesMs, callsDone } = tally;
  const audit = await race.audit(side);
  return {
    ...outcomes,
    ...audit,
    total: totalOf(audit),
    verdict: verdictOf(scenario, audit),
    callsDone,
    p50Ms: percentile(latenciesMs, 0.5),
    p95Ms: percentile(latenciesMs, 0.95),
  };
}

/** Names each error that occurred, or says that none did. */
function verdictOf({ wrongs, right }: Scenario, audit: Audit): string {
  const said = Object.entries(wrongs).flatMap(([name, wrong]) => {
    const count = audit.wrong[name]!;
    return count > 0 ? [wrong.said(count, audit)] : [];
  });
  if (said.length === 0) return right(audit);
  const last = said.pop()!;
  return said.length === 0 ? last : `${said.join(', ')} and ${last}`;
}
