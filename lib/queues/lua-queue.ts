/**
 * Shared by the scripts that look at a job's deliveries: `deliveries_of` answers its fence, which is how often it was delivered ever, and how many of
 * these count no longer, since it was requeued from the dead letters after them.
 */
export const luaDeliveries = `
local function deliveries_of(deliveries_key, id)
  local stored = redis.call('HGET', deliveries_key, id)
  if not stored then return 0, 0 end
  local fence, forgiven = string.match(stored, '^(%d+):(%d+)$')
  return tonumber(fence), tonumber(forgiven)
end

local function digits(number)
  return string.format('%.0f', number)
end

-- Whether the delivery still holds its job: nobody was given the job after it, and it was not given back. That its time is over does not end it.
local function is_held(deliveries_key, leases_key, id, fence)
  return redis.call('ZSCORE', leases_key, id) and digits((deliveries_of(deliveries_key, id))) == fence
end
`;
