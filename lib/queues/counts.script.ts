import { defineScript } from '../redis/script.js';

/** Counts a queue's jobs by where they are, at one moment. */
export const countsScript = defineScript({
  name: 'queues.counts',
  keys: ['pending', 'jobs', 'dead', 'delayed'],
  args: [],
  lua: `
-- KEYS[1] pending     list of the ids of jobs to be taken
-- KEYS[2] jobs        hash of job id to payload
-- KEYS[3] dead        sorted set of job id by its death, server time in ms
-- KEYS[4] delayed     sorted set of jobs by when they may be taken, server time in ms
-- returns {pending, delayed, all, dead} in decimal
local function digits(number) return string.format('%.0f', number) end
return {
  digits(redis.call('LLEN', KEYS[1])),
  digits(redis.call('ZCARD', KEYS[4])),
  digits(redis.call('HLEN', KEYS[2])),
  digits(redis.call('ZCARD', KEYS[3])),
}
`,
  readOnly: true,
  reply: (raw) => {
    const [ready = 0, delayed = 0, all = 0, dead = 0] = (raw as string[]).map(Number);
    const pending = ready + delayed;
    return { pending, delayed, processing: Math.max(0, all - pending - dead), dead };
  },
});
