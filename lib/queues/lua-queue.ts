/** The keys of a queue that its scripts name, for their headers. */
export const QUEUE_KEYS = {
  pending: 'list of the ids of jobs to be taken',
  jobs: 'hash of job id to payload',
  history: 'hash of job id to what became of its deliveries',
  leases: 'sorted set of job id by the end of its lease, server time in ms, and .5 where it has neighbours',
  dead: 'sorted set of job id by its death, server time in ms',
  delayed: 'sorted set of jobs, as luaDelay names them, by when they may be taken, server time in ms',
  wake: 'sorted set that waiting processes block on',
} as const;

/**
 * For scripts that read a job's history: what became of its deliveries, as `QueueKeys.history`
 * describes. A job without one has never come back.
 */
export const luaHistory = `
local function digits(number)
  return string.format('%.0f', number)
end

local function history_of(history_key, id)
  local stored = redis.call('HGET', history_key, id)
  if not stored then return 0, 0, 0, '', '' end
  local ended, forgiven, excused, trace, failure = string.match(stored, '^(%d+):(%d+):(%d+):([^:]*):(.*)$')
  -- Not the library's. An error here would come in the midst of a script's writes.
  if not ended then return 0, 0, 0, '', '' end
  return tonumber(ended), tonumber(forgiven), tonumber(excused), trace, failure
end
`;

/** For scripts that also change it. */
export const luaHistoryKept = `${luaHistory}
local function keep_history(history_key, id, ended, forgiven, excused, trace, failure)
  local counts = digits(ended) .. ':' .. digits(forgiven) .. ':' .. digits(excused)
  redis.call('HSET', history_key, id, counts .. ':' .. trace .. ':' .. failure)
end
`;

/**
 * For scripts that put jobs where they can be taken. The member exists while there are such jobs,
 * or until a waiting process has been woken by it. Another type under the key is left alone:
 * waiting processes then find jobs by looking now and then.
 */
export const luaWake = `
local function wake(wake_key)
  redis.pcall('ZADD', wake_key, '0', '1')
end
`;

/**
 * Position of the id in a member of the delayed jobs, as Lua counts. Before it stand the moment at
 * which the job was delayed, in µs, and its place among others.
 */
export const DELAYED_ID_AT = 22;

/**
 * Lua, for scripts with `luaTime`, that puts a job among those that wait for their time. Of jobs
 * that are due in one millisecond the one that was delayed first is first.
 * @param nth Lua for its place among those that this script delays, up to 5 digits
 */
export const luaDelay = (delayedKey: string, id: string, delayMs: string, nth: string): string =>
  `local order = string.format('%010.0f%06.0f%05.0f', time[1], time[2], ${nth})
        redis.call('ZADD', ${delayedKey}, string.format('%.0f', time_ms + ${delayMs}), order .. ${id})`;
