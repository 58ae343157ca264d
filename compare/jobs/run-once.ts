import { later } from '../actor.js';
import type { Told } from '../messages.js';
import { callOnce, settle, STUCK_MS, type Run, type Scenario } from './scenario.js';
import { describe } from '../verdict.js';

/** After this a client gives up, and asks again. */
const CLIENT_MS = 1_500;
const RETRY_MS = 150;

/**
 * A client asks until it is answered, at two processes in turn; and then once more. It does not
 * return to a process that gives no answer before the fault is over: the other one can take the key
 * over.
 */
export const runOnce: Scenario = async (run) => {
  const { arena, key, judge } = run;
  const gone = run.fault.clientGone.then((): Told => ({ kind: 'gone' }));
  const told = await askUntilAnswered(run, gone);
  await settle(run);
  let again: Told | undefined;
  if (told.kind === 'ok') {
    again = await askUntilAnswered(run);
    await settle(run);
  }
  const effects = await arena.witness.lrange(`effects:${key}`, 0, -1);
  const note = `the client was told ${describe(told)}, then ${again ? describe(again) : 'nothing'}; effects: ${effects.join(', ') || 'none'}`;
  if (effects.length > 1) judge.say('doubled', note);
  if (told.kind === 'held' || again?.kind === 'held') return judge.say('held', note);
  if (told.kind !== 'ok' || again?.kind !== 'ok') return judge.say('stuck', note);
  if (effects.length === 0) judge.say('lost', note);
  else if (told.value !== again.value || !effects.includes(String(told.value)))
    judge.say('told wrongly', note);
};

/** @param gone resolves when the client leaves its first call */
async function askUntilAnswered({ arena, fault, key }: Run, gone?: Promise<Told>): Promise<Told> {
  const end = performance.now() + STUCK_MS;
  let away: number | undefined;
  for (let attempt = 0; ; attempt++) {
    const index = away === undefined ? attempt % 2 : 1 - away;
    const asked = callOnce(arena.actors[index]!, { key }, CLIENT_MS);
    const told = await (attempt === 0 && gone ? Promise.race([asked, gone]) : asked);
    if (told.kind === 'ok' || told.kind === 'held' || performance.now() > end) return told;
    if (away === undefined && (told.kind === 'no answer' || told.kind === 'gone')) {
      away = index;
      void fault.settled().then(() => (away = undefined));
    }
    await later(RETRY_MS, undefined);
  }
}
