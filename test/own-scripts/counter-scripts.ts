import { defineScript } from 'nestjs-atomic-redis';

/** Adds to a counter, and returns its value. */
export const addScript = defineScript({
  name: 'test.add',
  keys: ['counter'],
  args: ['by'],
  lua: `return redis.call('INCRBY', KEYS[1], ARGV[1])`,
  reply: Number,
});

/** Returns the value of a counter, or null. */
export const readScript = defineScript({
  name: 'test.read',
  keys: ['counter'],
  args: [],
  readOnly: true,
  lua: `return redis.call('GET', KEYS[1])`,
  reply: (raw) => (raw === null ? null : Number(raw)),
});
