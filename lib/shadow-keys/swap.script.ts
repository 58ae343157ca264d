import { luaOperation } from '../redis/lua-operation.js';
import { defineScript } from '../redis/script.js';

export type SwapAnswer =
  | { readonly kind: 'swapped' }
  /** A newer version was there before. */
  | { readonly kind: 'older' }
  /** The shadow of this target, counted from 0, is not what was built. */
  | { readonly kind: 'lost'; readonly target: number };

/** How long a version is kept whose live key has no time to live, in milliseconds: nothing tells when that key is deleted. */
export const VERSION_TTL_MS = 7 * 24 * 60 * 60 * 1_000;

/**
 * Puts shadows in the place of their live keys, all of them or none, and frees what was there off the main thread (UNLINK; RENAME by itself would
 * free it on the main thread).
 */
export const swapScript = defineScript({
  name: 'shadow-keys.swap',
  keys: ['marker', '...targets'],
  args: ['notAfterMs', 'keepMarker', 'mode', 'ttlMs', 'version', 'keepPrevious', 'shadowTtlMs', '...sizes'],
  reply: (raw): SwapAnswer => {
    const [kind, target] = String(raw).split(' ');
    if (kind === 'LOST') return { kind: 'lost', target: Number(target) };
    return { kind: kind === 'OLDER' ? 'older' : 'swapped' };
  },
  lua: `
-- KEYS[1]  marker: of this operation; holds its answer
-- KEYS[2…] per target: +0 the live key, +1 its shadow, +2 what was live before, +3 the version of the live key
-- ARGV[1]  notAfterMs: time limit, milliseconds of Redis's clock
-- ARGV[2]  keepMarker: '1' or ''
-- ARGV[3]  mode: rename | copy
-- ARGV[4]  ttlMs: of the new value, or '' for none
-- ARGV[5]  version: of the new value, an integer from 0 below 2^63, or ''
-- ARGV[6]  keepPrevious: '1' or ''
-- ARGV[7]  shadowTtlMs: how long a copied shadow stays
-- ARGV[8…] sizes, per target: +0 the command that tells a shadow's size, +1 what it must answer; '' and '' to delete the live key
-- Returns a string: SWAPPED | OLDER | LOST <target, counted from 0> | TOO_LATE
${luaOperation}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end

-- Of integers without a sign or leading zeros.
local function is_less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

local copies, ttl, version = ARGV[3] == 'copy', ARGV[4], ARGV[5]
local targets = math.floor((#KEYS - 1) / 4)

for i = 0, targets - 1 do
  local shadow, command, size = KEYS[i * 4 + 3], ARGV[i * 2 + 8], ARGV[i * 2 + 9]
  if command ~= '' then
    -- Without a time to live it is a part of one that expired. A smaller one lost its last chunks in a failover.
    local found = redis.pcall(command, shadow)
    local is_whole = type(found) == 'number' and string.format('%.0f', found) == size
    if not is_whole or redis.call('PTTL', shadow) <= 0 then
      return remember('LOST ' .. string.format('%.0f', i))
    end
  end
end
-- The version stands for the live key, or for its deletion by a swap. Of a key that went otherwise it says nothing any more.
local function version_of(live, version_key)
  local stored = redis.call('GET', version_key)
  if not stored then return nil end
  local number, gone = string.match(stored, '^(%d+)(.*)$')
  return (gone ~= '' or redis.call('EXISTS', live) == 1) and number or nil
end

local versions, is_stale = {}, {}
for i = 0, targets - 1 do
  local current = version_of(KEYS[i * 4 + 2], KEYS[i * 4 + 5])
  if version ~= '' then
    if current and is_less(version, current) then return remember('OLDER') end
    current = version
  end
  versions[i] = current
  is_stale[i] = not current and redis.call('EXISTS', KEYS[i * 4 + 5]) == 1
end

remember('SWAPPED')
for i = 0, targets - 1 do
  local live, shadow, previous, version_key = KEYS[i * 4 + 2], KEYS[i * 4 + 3], KEYS[i * 4 + 4], KEYS[i * 4 + 5]
  redis.call('UNLINK', previous)
  if ARGV[6] ~= '' and redis.call('EXISTS', live) == 1 then
    redis.call('RENAME', live, previous)
  else
    redis.call('UNLINK', live)
  end
  if ARGV[i * 2 + 8] ~= '' then
    if copies then
      redis.call('COPY', shadow, live)
      redis.call('PEXPIRE', shadow, ARGV[7])
    else
      redis.call('RENAME', shadow, live)
    end
    if ttl == '' then redis.call('PERSIST', live) else redis.call('PEXPIRE', live, ttl) end
  end
  -- An unversioned swap leaves it, so that older ones still lose.
  if versions[i] then
    local gone = ARGV[i * 2 + 8] == '' and ' gone' or ''
    redis.call('SET', version_key, versions[i] .. gone, 'PX', ttl ~= '' and ttl or '${VERSION_TTL_MS}')
  elseif is_stale[i] then
    redis.call('UNLINK', version_key)
  end
end
return 'SWAPPED'
`,
});
