import { later, type Actor } from '../actor.js';
import type { Arena } from '../arena.js';
import type { ArmedFault } from '../faults.js';
import type { Call, Told } from '../messages.js';
import type { Judge } from '../verdict.js';

export interface Run {
  readonly arena: Arena;
  readonly fault: ArmedFault;
  /** Part of every key of the run, and of no other. */
  readonly key: string;
  readonly random: () => number;
  readonly judge: Judge;
}

/** The calls of one run of a job, and their verdict. */
export type Scenario = (run: Run) => Promise<void>;

/** A call that has no answer by then has hung. */
export const HUNG_MS = 15_000;
/** A key that was unusable for this long is stuck: four leases. */
export const STUCK_MS = 8_000;

export const callOnce = (actor: Actor, call: Call, ms = HUNG_MS): Promise<Told> =>
  Promise.race([actor.call(call), later<Told>(ms, { kind: 'no answer' })]);

/** Calls until it succeeds, to find out if a key can still be used. */
export async function callUntilOk(actor: Actor, call: Call, ms = STUCK_MS): Promise<Told> {
  const end = performance.now() + ms;
  for (;;) {
    const told = await callOnce(actor, call, Math.max(1, end - performance.now()));
    if (told.kind === 'ok' || performance.now() > end) return told;
    await later(150, undefined);
  }
}

/** Waits until the struck are back and every call is answered. */
export async function settle({ arena, fault }: Run): Promise<void> {
  await fault.settled();
  const end = performance.now() + HUNG_MS;
  while (arena.actors.some(({ pending }) => pending > 0) && performance.now() < end)
    await later(20, undefined);
  for (const actor of arena.actors) actor.onPause = async () => undefined;
  await Promise.all(arena.actors.map((actor) => actor.ready()));
}
