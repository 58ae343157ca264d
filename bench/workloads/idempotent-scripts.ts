/** Claim and completion by a script each, as one would write them by hand. */
export const CLAIM = `
local record = redis.call('HMGET', KEYS[1], 'token', 'fingerprint', 'result')
if not record[1] then
  redis.call('HSET', KEYS[1], 'token', ARGV[1], 'fingerprint', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return 'claimed'
end
if record[2] ~= ARGV[2] then return redis.error_reply('MISMATCH') end
return record[3] or (record[1] == ARGV[1] and 'claimed') or redis.error_reply('RUNNING')`;

export const COMPLETE = `
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 'lost' end
redis.call('HSET', KEYS[1], 'result', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 'done'`;

export const RELEASE = `
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then redis.call('DEL', KEYS[1]) end`;
export const RENEW = `
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end`;
export const LEASE_MS = 30_000;
export const TTL_MS = 86_400_000;

export const payload = {
  sku: 'chair-42',
  quantity: 3,
  note: 'leave it with the neighbour',
  address: 'Long Street 7',
};
export const result = { id: 'order-4711', status: 'accepted', total: 129_00, lines: [payload] };
