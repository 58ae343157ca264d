import { integerBetween } from '../../test/soak/random.js';
import { later } from '../actor.js';
import { callOnce, callUntilOk, settle, type Scenario } from './scenario.js';

/**
 * One process adds an entry and is struck; another adds two meanwhile, and one at the end, until it
 * succeeds.
 */
export const update: Scenario = async (run) => {
  const { arena, key, random, judge } = run;
  const [struck, other] = [arena.actors[0]!, arena.actors[1]!];
  const waitMs = [integerBetween(random, 0, 100), integerBetween(random, 0, 100)];
  const others = async () => {
    const told = [];
    for (const [index, ms] of waitMs.entries()) {
      await later(ms, undefined);
      told.push(await callOnce(other, { key, entry: `b${index}` }));
    }
    return told;
  };
  const [first, second] = await Promise.all([callOnce(struck, { key, entry: 'a' }), others()]);
  await settle(run);
  const last = await callUntilOk(other, { key, entry: 'last' });
  if (last.kind !== 'ok') judge.say('stuck', `no update of ${key} was possible at the end`);
  await settle(run);
  const value = await arena.read((admin) => admin.get(key));
  const entries = value?.split(',') ?? [];
  const times = (entry: string): number => entries.filter((found) => found === entry).length;
  judge.call('the struck update', first, times('a'));
  for (const [index, told] of second.entries())
    judge.call(`update ${index} beside it`, told, times(`b${index}`));
  if (last.kind === 'ok') judge.call('the last update', last, times('last'));
};
