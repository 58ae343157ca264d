import { defineOperation, defineQuery, defineStep } from '../operations/operation.js';
import type { Delivery } from './delivery.js';
import { luaHistory, luaHistoryKept, luaWake, QUEUE_KEYS } from './lua-queue.js';
import type { QueueAccess } from './queue-access.js';
import type { RawDeadLetter } from './dead-letter.js';

const { pending, jobs, history, leases, dead, delayed, wake } = QUEUE_KEYS;

/**
 * Prolongs the lease of a delivery that still holds its job. It never moves the end of a lease
 * back: a handler and the renewal prolong the same lease, and whichever comes last must not undo
 * the other.
 */
export const extend = defineOperation({
  type: 'queues.extend',
  keys: { history, leases },
  args: { id: 'of the job', fence: 'of the delivery', leaseMs: 'from now, at the least' },
  returns: 'EXTENDED | LOST',
  uses: [luaHistory],
  lua: `
local score = redis.call('ZSCORE', KEYS.leases, ARGV.id)
if not score or (history_of(KEYS.history, ARGV.id)) ~= tonumber(ARGV.fence) then return remember('LOST') end
local lease_end = math.max(math.floor(tonumber(score)), time_ms + tonumber(ARGV.leaseMs))
local neighbours = string.sub(score, -2) == '.5' and '.5' or ''
-- Taken out first, which needs no memory: a lease is prolonged also when memory is full.
redis.call('ZREM', KEYS.leases, ARGV.id)
redis.call('ZADD', KEYS.leases, digits(lease_end) .. neighbours, ARGV.id)
return remember('EXTENDED')
`,
  reply: (raw) => raw === 'EXTENDED',
  check: (call: Pick<Delivery, 'id' | 'fence'> & { of: QueueAccess; leaseMs: number }) => call,
  does: ({ of }) => `Extending a lease of ${of.title}`,
  encode: ({ of, ...args }) => ({ keys: { ...of.keys }, args }),
  decode: (isExtended) => isExtended,
  changed: (isExtended) => isExtended,
});

/** Counts a queue's jobs by where they are, at one moment. */
export const counts = defineQuery({
  type: 'queues.counts',
  keys: { pending, jobs, dead, delayed },
  args: {},
  returns: '{pending, delayed, all, dead} in decimal',
  lua: `
local function digits(number) return string.format('%.0f', number) end
return {
  digits(redis.call('LLEN', KEYS.pending)),
  digits(redis.call('ZCARD', KEYS.delayed)),
  digits(redis.call('HLEN', KEYS.jobs)),
  digits(redis.call('ZCARD', KEYS.dead)),
}
`,
  reply: (raw) => (raw as string[]).map(Number),
  check: (of: QueueAccess) => of,
  encode: ({ keys }) => ({ keys: { ...keys }, args: {} }),
  decode: ([ready = 0, waiting = 0, all = 0, died = 0]) => {
    const toCome = ready + waiting;
    return { pending: toCome, delayed: waiting, processing: Math.max(0, all - toCome - died), dead: died };
  },
});

/** Reads dead letters in the order they died. */
export const listDead = defineQuery({
  type: 'queues.listDead',
  keys: { dead, jobs, history },
  args: { offset: 'how many to leave out, the oldest first', limit: 'how many at the most' },
  returns: 'for each {id, moment it died in ms, deliveries that count, reason, payload}',
  uses: [luaHistory],
  lua: `
local letters = {}
local last = string.format('%.0f', tonumber(ARGV.offset) + tonumber(ARGV.limit) - 1)
for _, id in ipairs(redis.call('ZRANGE', KEYS.dead, ARGV.offset, last)) do
  local payload = redis.call('HGET', KEYS.jobs, id)
  if payload then
    local ended, forgiven, excused, _, failure = history_of(KEYS.history, id)
    local died = digits(tonumber(redis.call('ZSCORE', KEYS.dead, id)))
    letters[#letters + 1] = {id, died, digits(ended - forgiven - excused), failure, payload}
  end
end
return letters
`,
  binary: true,
  reply: (raw) => raw as Buffer[][],
  check: (call: { of: QueueAccess; offset: number; limit: number }) => call,
  encode: ({ of, ...args }) => ({ keys: { ...of.keys }, args }),
  decode: (letters): RawDeadLetter[] =>
    letters.map(([id, died, deliveries, reason, payload]) => ({
      id: String(id),
      diedAt: new Date(Number(died)),
      deliveries: Number(deliveries),
      reason: String(reason),
      bytes: payload!,
    })),
});

/**
 * Takes jobs out of the dead letters: back to the queue with their deliveries forgiven, or out of
 * Redis.
 */
export const takeDead = defineOperation({
  type: 'queues.takeDead',
  keys: { dead, pending, jobs, history, wake },
  args: {
    action: 'requeue | purge',
    limit: "without ids: how many, oldest first; '' with ids",
    '...ids': 'of the jobs; those that are not in the dead letters are left out',
  },
  returns: 'how many were taken, in decimal',
  uses: [luaHistoryKept, luaWake],
  lua: `
redis.call('LLEN', KEYS.pending)
redis.call('HLEN', KEYS.jobs)
redis.call('HLEN', KEYS.history)

local ids = {}
if ARGV.limit ~= '' then
  ids = redis.call('ZRANGE', KEYS.dead, 0, string.format('%.0f', tonumber(ARGV.limit) - 1))
else
  for i = ARGV.ids, #ARGV do ids[#ids + 1] = ARGV[i] end
end

local taken = 0
for _, id in ipairs(ids) do
  -- The first write frees memory: dead letters can be taken out also when there is none left.
  if redis.call('ZREM', KEYS.dead, id) == 1 then
    taken = taken + 1
    if ARGV.action == 'requeue' then
      local ended, _, _, trace = history_of(KEYS.history, id)
      keep_history(KEYS.history, id, ended, ended, 0, trace, '')
      redis.call('RPUSH', KEYS.pending, id)
    else
      redis.call('HDEL', KEYS.jobs, id)
      redis.call('HDEL', KEYS.history, id)
    end
  end
end
if taken > 0 and ARGV.action == 'requeue' then wake(KEYS.wake) end
return remember(digits(taken))
`,
  reply: Number,
  check: (call: { of: QueueAccess; action: 'requeue' | 'purge'; which: readonly string[] | number }) => call,
  does: ({ of }) => `Taking from the dead letters of ${of.title}`,
  encode: ({ of: { keys }, action, which }) => ({
    keys: { ...keys },
    args: {
      action,
      limit: typeof which === 'number' ? which : '',
      ids: typeof which === 'number' ? [] : which,
    },
  }),
  decode: (taken) => taken,
  changed: (taken) => taken > 0,
});

/**
 * Wakes another process when one was woken and cannot take: there are jobs, or it is to know when
 * the next is due.
 */
export const wakeAnother = defineStep({
  type: 'queues.wake',
  copies: 'a process that is woken for nothing waits on',
  keys: { pending, wake, delayed },
  args: {},
  returns: 'nothing',
  uses: [luaWake],
  lua: `
if redis.call('LLEN', KEYS.pending) > 0 or redis.call('ZCARD', KEYS.delayed) > 0 then wake(KEYS.wake) end
`,
  reply: () => undefined,
  check: (of: QueueAccess) => of,
  does: ({ title }) => `Waking ${title}`,
  encode: ({ keys }) => ({ keys: { ...keys }, args: {} }),
  decode: () => undefined,
});

/** Ends the BZPOPMIN of one connection, so that it can wait on more queues. */
export const ringBell = defineStep({
  type: 'queues.bell',
  copies: 'a wait that is ended early begins anew',
  keys: { bell: 'sorted set that one connection blocks on; it expires when that connection is gone' },
  args: {},
  returns: 'nothing',
  lua: `
redis.call('ZADD', KEYS.bell, '0', '1')
redis.call('PEXPIRE', KEYS.bell, '10000')
`,
  reply: () => undefined,
  check: (bell: string) => bell,
  does: () => 'Ringing a bell',
  encode: (bell) => ({ keys: { bell }, args: {} }),
  decode: () => undefined,
});
