import { defineScript } from '../redis/script.js';
import { luaWake } from './lua-queue.js';

/** Wakes another process when one was woken and cannot take: there are jobs, or it is to know when the next is due. A copy of it does no harm. */
export const wakeScript = defineScript({
  name: 'queues.wake',
  keys: ['pending', 'wake', 'delayed'],
  args: [],
  lua: `
-- KEYS[1] pending  list of the ids of jobs to be taken
-- KEYS[2] wake     sorted set that waiting processes block on
-- KEYS[3] delayed  sorted set of jobs by when they may be taken, server time in ms
-- returns nothing
${luaWake}
if redis.call('LLEN', KEYS[1]) > 0 or redis.call('ZCARD', KEYS[3]) > 0 then wake(KEYS[2]) end
`,
  reply: () => undefined,
});
