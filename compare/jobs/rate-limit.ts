import type { Told } from '../messages.js';
import { LIMIT } from '../tool.js';
import { describe } from '../verdict.js';
import { callOnce, callUntilOk, settle, type Scenario } from './scenario.js';

const OTHERS = LIMIT + 1;

/** One process takes and is struck; then another takes `OTHERS` times, each until it succeeds. */
export const rateLimit: Scenario = async (run) => {
  const { arena, fault, key, judge } = run;
  const [struck, other] = [arena.actors[0]!, arena.actors[1]!];
  const stall = fault.stallMs === undefined ? {} : { stallMs: fault.stallMs };
  const all: Told[] = [await callOnce(struck, { key, ...stall })];
  await settle(run);
  for (let i = 0; i < OTHERS; i++) all.push(await callUntilOk(other, { key }));

  const is = (kind: Told['kind']): number => all.filter((told) => told.kind === kind).length;
  const passed = all.filter((told) => told.kind === 'ok' && told.value === true).length;
  const open = is('unknown') + is('gone') + is('no answer');
  const note = `the calls were told ${all.map(describe).join('; ')}; the limit is ${LIMIT}`;
  if (passed > LIMIT) judge.say('lost', note);
  else if (passed + open < LIMIT && is('not-applied') > 0) judge.refusedWrongly(note);
  else if (passed + open < LIMIT) judge.say('doubled', note);
  if (is('unknown') > 0) judge.say('unknown', note);
  if (is('not-applied') > 0) judge.say('refused', note);
  if (is('no answer') > 0) judge.say('stuck', note);
};
