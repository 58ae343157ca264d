import { defineScript } from '../redis/script.js';
import { luaHistory } from './lua-queue.js';

/** Reads dead letters in the order they died. */
export const listDeadScript = defineScript({
  name: 'queues.listDead',
  keys: ['dead', 'jobs', 'history'],
  args: ['offset', 'limit'],
  binary: true,
  lua: `
-- KEYS[1] dead        sorted set of job id by its death, server time in ms
-- KEYS[2] jobs        hash of job id to payload
-- KEYS[3] history     hash of job id to what became of its deliveries
-- ARGV[1] offset  how many to leave out, the oldest first
-- ARGV[2] limit   how many at the most
-- returns for each {id, moment it died in ms, deliveries that count, reason, payload}
${luaHistory}
local letters = {}
local last = string.format('%.0f', tonumber(ARGV[1]) + tonumber(ARGV[2]) - 1)
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[1], last)) do
  local payload = redis.call('HGET', KEYS[2], id)
  if payload then
    local ended, forgiven, excused, _, failure = history_of(KEYS[3], id)
    local died = digits(tonumber(redis.call('ZSCORE', KEYS[1], id)))
    letters[#letters + 1] = {id, died, digits(ended - forgiven - excused), failure, payload}
  end
end
return letters
`,
  readOnly: true,
  reply: (raw) =>
    (raw as Buffer[][]).map(([id, died, deliveries, reason, payload]) => ({
      id: String(id),
      diedAt: new Date(Number(died)),
      deliveries: Number(deliveries),
      reason: String(reason),
      bytes: payload!,
    })),
});
