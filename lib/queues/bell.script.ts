import { defineScript } from '../redis/script.js';

/** Ends the BZPOPMIN of one connection, so that it can wait on more queues. A copy of it ends another one early, which does no harm. */
export const bellScript = defineScript({
  name: 'queues.bell',
  keys: ['bell'],
  args: [],
  lua: `
-- KEYS[1] bell  sorted set that one connection blocks on; it expires when that connection is gone
-- returns nothing
redis.call('ZADD', KEYS[1], '0', '1')
redis.call('PEXPIRE', KEYS[1], '10000')
`,
  reply: () => undefined,
});
