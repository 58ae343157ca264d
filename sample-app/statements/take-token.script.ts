import { defineScript } from 'nestjs-atomic-redis';

/**
 * Takes a token out of a bucket that is given one every `refillMs`, up to `capacity`; or tells how
 * long to wait for one.
 */
export const takeTokenScript = defineScript({
  name: 'statements.takeToken',
  keys: ['bucket'],
  args: ['capacity', 'refillMs'],
  lua: `
-- KEYS[1]  bucket: a hash of tokens, and of at, the time in ms up to which refills are in tokens
-- ARGV[1]  capacity: tokens in a full bucket
-- ARGV[2]  refillMs
-- Returns {1 if one was taken else 0, ms to wait}
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local capacity, refill_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(state[1] or capacity), tonumber(state[2] or now)
local refills = math.max(0, math.floor((now - at) / refill_ms))
tokens, at = math.min(capacity, tokens + refills), at + refills * refill_ms
if tokens == capacity then at = now end
if tokens < 1 then return { 0, at + refill_ms - now } end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.0f', tokens - 1), 'at', string.format('%.0f', at))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', capacity * refill_ms))
return { 1, 0 }
`,
  reply: (raw) => {
    const [taken, waitMs] = raw as [number, number];
    return { taken: taken === 1, waitMs };
  },
});
