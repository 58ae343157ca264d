import { seededRandom } from '../test/soak/random.js';
import { later, type Actor } from './actor.js';
import { Arena } from './arena.js';
import { arm, countCommands, FAULTS, type Fault } from './faults.js';
import { counter } from './jobs/counter.js';
import { drained, queue } from './jobs/queue.js';
import { rateLimit } from './jobs/rate-limit.js';
import { runOnce } from './jobs/run-once.js';
import { callOnce, type Scenario } from './jobs/scenario.js';
import { update } from './jobs/update.js';
import type { Peer } from './peers.js';
import type { JobName } from './tool.js';
import { describe, Judge, OUTCOMES, type Outcome, type Verdict } from './verdict.js';

const SCENARIOS: Record<JobName, Scenario> = {
  'run-once': runOnce,
  'read-modify-write': update,
  lock: update,
  counter,
  'rate-limit': rateLimit,
  queue,
};
/** A run whose fault struck nothing is made again, at another command. */
const TRIES = 4;
const WARM_UP_MS = 10_000;
/** Time in which a queue's first job is taken and done. */
const QUEUE_WARM_UP_MS = 500;

export interface Cell {
  readonly peer: Peer;
  readonly fault: Fault;
}

export interface CellResult extends Cell {
  readonly runs: number;
  readonly notStruck: number;
  /** Runs in which it happened. */
  readonly counts: Readonly<Record<Outcome, number>>;
  readonly failures: readonly { run: number; how: string; notes: readonly string[] }[];
}

export const nameOf = ({ peer, fault }: Cell): string => `${peer.job}/${peer.id}/${fault.id}`;

/** The worst outcome of a cell's runs. */
export const worstOf = ({ counts }: CellResult): Outcome | 'ok' =>
  OUTCOMES.find((outcome) => counts[outcome] > 0) ?? 'ok';

export interface CellOptions {
  readonly seed: number;
  readonly runs: readonly number[];
  readonly binary: string | undefined;
  readonly witnessUrl: string;
}

/** Runs the cells of one peer, one after the other, on the same processes. */
export async function* runCells(cells: readonly Cell[], options: CellOptions): AsyncGenerator<CellResult> {
  const { peer, fault } = cells[0]!;
  const isPair = fault.needsPair ?? false;
  const arena = await Arena.open(peer, { ...options, isPair });
  try {
    for (const cell of cells) yield await runCell(cell, arena, options);
  } finally {
    await arena.close();
  }
}

async function runCell(cell: Cell, arena: Arena, { seed, runs }: CellOptions): Promise<CellResult> {
  const learned = await warmUp(cell.peer, arena);
  const counts = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, 0])) as Record<Outcome, number>;
  const failures = [];
  let notStruck = 0;
  for (const run of runs) {
    for (let attempt = 0; ; attempt++) {
      const { verdict, isStruck, how } = await once(cell, arena, { ...learned, seed, run, attempt });
      if (!isStruck && verdict.found.size === 0 && attempt < TRIES) continue;
      if (!isStruck) notStruck++;
      for (const outcome of verdict.found) counts[outcome]++;
      if (verdict.found.size > 0) failures.push({ run, how, notes: verdict.notes });
      break;
    }
  }
  return { ...cell, runs: runs.length, notStruck, counts, failures };
}

interface Learned {
  /** Number of commands of one call. */
  readonly commands: number;
  /** Names of the keys without a time to live that a call leaves when nothing goes wrong. */
  readonly lasting: ReadonlySet<string>;
}

/** Makes calls without a fault. A process that answers none of them is replaced. */
async function warmUp({ job }: Peer, arena: Arena): Promise<Learned> {
  for (let attempt = 1, ok = 0; ; attempt++) {
    const key = `warm-up-${arena.nextId()}`;
    const fault = await arm(FAULTS[0]!, arena, job, () => 0, 1);
    const counting = countCommands(arena, job === 'queue');
    const judge = new Judge(false);
    const [first, second] = arena.actors as [Actor, Actor];
    const told = [await callOnce(first, { key, entry: 'warm' }, WARM_UP_MS)];
    if (job === 'queue') await later(QUEUE_WARM_UP_MS, undefined);
    const commands = counting.stop();
    const other = job === 'queue' ? `${key}-b` : key;
    told.push(await callOnce(second, { key: other, entry: 'warm' }, WARM_UP_MS));
    if (job === 'queue') await drained({ arena, key, fault, judge, random: () => 0 }, []);
    if (told.every(({ kind }) => kind === 'ok')) ok++;
    // The first calls of a process take more commands than later ones.
    if (ok === 2) return { commands: Math.max(1, commands), lasting: await lastingKeys(arena, key) };
    if (attempt === 6) throw new Error(`${job}: no answer without a fault: ${told.map(describe).join('; ')}`);
    for (const [i, { kind }] of told.entries()) if (kind !== 'ok') await arena.actors[i]!.kill();
    await Promise.all(arena.actors.map((actor) => actor.ready()));
  }
}

async function once(
  { peer, fault }: Cell,
  arena: Arena,
  given: Learned & { seed: number; run: number; attempt: number },
): Promise<{ verdict: Verdict; isStruck: boolean; how: string }> {
  const { seed, run, attempt, commands, lasting } = given;
  const random = seededRandom(hash(`${seed} ${peer.job} ${fault.id} ${run} ${attempt}`));
  const key = `run-${arena.nextId()}-${run}`;
  const judge = new Judge(peer.isOurs ?? false);
  // After a run that struck nothing, an earlier command.
  const armed = await arm(fault, arena, peer.job, random, Math.ceil(commands / 2 ** attempt));
  try {
    await SCENARIOS[peer.job]({ arena, fault: armed, key, random, judge });
  } finally {
    await arena.mend();
  }
  const leaked = [...(await lastingKeys(arena, key))].filter((name) => !lasting.has(name));
  if (leaked.length > 0) judge.say('leaked', `keys without a time to live: ${leaked.join(', ')}`);
  const hung = arena.actors.filter(({ pending }) => pending > 0);
  await Promise.all(hung.map((actor) => actor.kill().then(() => actor.ready())));
  return { verdict: judge, isStruck: armed.isStruck, how: armed.how };
}

/** Names of the run's keys without a time to live, with # for what is the run's own. */
async function lastingKeys({ admin }: Arena, key: string): Promise<Set<string>> {
  const found = new Set<string>();
  let cursor = '0';
  do {
    const [next, names] = await admin.scan(cursor, 'COUNT', 1_000);
    cursor = next;
    for (const name of names)
      if (name.includes(key) && (await admin.pttl(name)) === -1)
        found.add(name.replaceAll(key, '#').replaceAll(/#-(\d|last|b)$/g, '#'));
  } while (cursor !== '0');
  return found;
}

/** FNV-1a */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const character of text) value = Math.imul(value ^ character.codePointAt(0)!, 0x01000193);
  return value >>> 0;
}
