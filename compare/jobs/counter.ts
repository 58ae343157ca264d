import { describe } from '../verdict.js';
import { callOnce, callUntilOk, settle, type Scenario } from './scenario.js';

/**
 * One process adds 1 and is struck; another adds 1 twice meanwhile, and at the end until it
 * succeeds.
 */
export const counter: Scenario = async (run) => {
  const { arena, fault, key, judge } = run;
  const [struck, other] = [arena.actors[0]!, arena.actors[1]!];
  const others = async () => [await callOnce(other, { key }), await callOnce(other, { key })];
  const stall = fault.stallMs === undefined ? {} : { stallMs: fault.stallMs };
  const [first, second] = await Promise.all([callOnce(struck, { key, ...stall }), others()]);
  await settle(run);
  const before = Number(await arena.read((admin) => admin.get(key)));
  const last = await callUntilOk(other, { key });
  if (last.kind !== 'ok') judge.say('stuck', `nothing could be added to ${key} at the end`);

  const all = [first, ...second];
  const count = (kinds: readonly string[]): number => all.filter(({ kind }) => kinds.includes(kind)).length;
  const least = count(['ok']);
  const most = least + count(['unknown', 'gone', 'no answer']);
  const note = `the calls were told ${all.map(describe).join('; ')}; the counter is ${before}`;
  if (before < least) judge.say('lost', note);
  else if (before > most + count(['not-applied'])) judge.say('doubled', note);
  else if (before > most) judge.refusedWrongly(note);
  if (count(['unknown']) > 0) judge.say('unknown', note);
  if (count(['not-applied']) > 0) judge.say('refused', note);
  if (count(['no answer']) > 0) judge.say('stuck', note);
};
