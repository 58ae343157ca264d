/**
 * Shared by the scripts that look at a job's deliveries: how many of them have ended without the job being done, how many of these count no longer, since
 * it was requeued from the dead letters after them, and why the last one failed. A job that has none has no history.
 */
export const luaHistory = `
local function digits(number)
  return string.format('%.0f', number)
end

local function history_of(history_key, id)
  local stored = redis.call('HGET', history_key, id)
  if not stored then return 0, 0, '' end
  local ended, forgiven, failure = string.match(stored, '^(%d+):(%d+):(.*)$')
  return tonumber(ended), tonumber(forgiven), failure
end
`;

/** And for those that add to it. */
export const luaHistoryKept = `${luaHistory}
local function keep_history(history_key, id, ended, forgiven, failure)
  redis.call('HSET', history_key, id, digits(ended) .. ':' .. digits(forgiven) .. ':' .. failure)
end
`;
