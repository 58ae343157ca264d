import { describe } from '../atomic-redis.errors.js';
import { defineOperation, defineStep } from '../operations/operation.js';
import type { KeySpace } from '../scripting/key-space.js';
import { SIZE_COMMAND, type Shadow } from './shadow-type.js';

/**
 * The time for which a version is kept if its live key has no time to live, in milliseconds: the
 * library does not see that key's deletion.
 */
const VERSION_TTL_MS = 7 * 24 * 60 * 60 * 1_000;

type SwapAnswer =
  | { readonly kind: 'swapped' }
  /** A newer version was there before. */
  | { readonly kind: 'older' }
  /** The shadow of this target, counted from 0, is not the one that was built. */
  | { readonly kind: 'lost'; readonly target: number };

/** A swap of shadows for their live keys, checked. */
interface Swap {
  readonly shadows: readonly Pick<Shadow, 'liveKey' | 'key' | 'hasBegun' | 'type' | 'size'>[];
  readonly mode: 'rename' | 'copy';
  readonly ttlMs: number | '';
  readonly version: number | bigint | '';
  readonly keepPrevious: boolean;
  readonly shadowTtlMs: number;
}

/**
 * Puts shadows in the place of their live keys, all or none. Frees the old values off the main
 * thread by UNLINK; RENAME alone would free them on it.
 */
export const swap = defineOperation({
  type: 'shadow-keys.swap',
  keys: {
    '...targets':
      'for each: +0 the live key, +1 its shadow, +2 what was live before, +3 the version of the live key',
  },
  args: {
    mode: 'rename | copy',
    ttlMs: "of the new value, or '' for none",
    version: "of the new value, an integer from 0 below 2^63, or ''",
    keepPrevious: "'1' or ''",
    shadowTtlMs: 'how long a copied shadow stays',
    '...sizes':
      "for each target: +0 the command that tells a shadow's size, +1 what it must answer; '' and '' to delete the live key",
  },
  returns: 'a string: SWAPPED | OLDER | LOST <target, counted from 0>',
  lua: `
local first = KEYS.targets

-- Of integers without a sign or leading zeros.
local function is_less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

local copies, ttl, version = ARGV.mode == 'copy', ARGV.ttlMs, ARGV.version
local targets = math.floor((#KEYS - first + 1) / 4)

for i = 0, targets - 1 do
  local shadow, command, size = KEYS[first + i * 4 + 1], ARGV[ARGV.sizes + i * 2], ARGV[ARGV.sizes + i * 2 + 1]
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
  local current = version_of(KEYS[first + i * 4], KEYS[first + i * 4 + 3])
  if version ~= '' then
    if current and is_less(version, current) then return remember('OLDER') end
    current = version
  end
  versions[i] = current
  is_stale[i] = not current and redis.call('EXISTS', KEYS[first + i * 4 + 3]) == 1
end

remember('SWAPPED')
for i = 0, targets - 1 do
  local live, shadow, previous, version_key = KEYS[first + i * 4], KEYS[first + i * 4 + 1], KEYS[first + i * 4 + 2], KEYS[first + i * 4 + 3]
  redis.call('UNLINK', previous)
  if ARGV.keepPrevious ~= '' and redis.call('EXISTS', live) == 1 then
    redis.call('RENAME', live, previous)
  else
    redis.call('UNLINK', live)
  end
  if ARGV[ARGV.sizes + i * 2] ~= '' then
    if copies then
      redis.call('COPY', shadow, live)
      redis.call('PEXPIRE', shadow, ARGV.shadowTtlMs)
    else
      redis.call('RENAME', shadow, live)
    end
    if ttl == '' then redis.call('PERSIST', live) else redis.call('PEXPIRE', live, ttl) end
  end
  -- An unversioned swap leaves it, so that older ones still lose.
  if versions[i] then
    local gone = ARGV[ARGV.sizes + i * 2] == '' and ' gone' or ''
    redis.call('SET', version_key, versions[i] .. gone, 'PX', ttl ~= '' and ttl or '${VERSION_TTL_MS}')
  elseif is_stale[i] then
    redis.call('UNLINK', version_key)
  end
end
return 'SWAPPED'
`,
  reply: (raw): SwapAnswer => {
    const [kind, target] = String(raw).split(' ');
    if (kind === 'LOST') return { kind: 'lost', target: Number(target) };
    return { kind: kind === 'OLDER' ? 'older' : 'swapped' };
  },
  check: (call: Swap) => call,
  does: ({ shadows }) => `Replacing ${describe(shadows[0]!.liveKey)}`,
  encode: ({ shadows, mode, ttlMs, version, keepPrevious, shadowTtlMs }, space) => ({
    keys: {
      targets: shadows.flatMap(({ liveKey, key }) => [
        liveKey,
        key,
        previousOf(space, liveKey),
        versionOf(space, liveKey),
      ]),
    },
    args: {
      mode,
      ttlMs,
      version,
      keepPrevious: keepPrevious ? '1' : '',
      shadowTtlMs,
      sizes: shadows.flatMap(({ hasBegun, type, size }) =>
        hasBegun ? [SIZE_COMMAND[type!], String(size)] : ['', ''],
      ),
    },
  }),
  decode: (answer) => answer,
});

/**
 * Puts back the values that the last swap replaced, of all targets or of none. Its result is false
 * if a target has no kept value.
 */
export const rollback = defineOperation({
  type: 'shadow-keys.rollback',
  keys: {
    '...targets': 'for each: +0 the live key, +1 what was live before, +2 the version of the live key',
  },
  args: {},
  returns: 'a string: DONE | NONE where one of them has nothing to go back to',
  lua: `
for i = KEYS.targets, #KEYS, 3 do
  if redis.call('EXISTS', KEYS[i + 1]) == 0 then return remember('NONE') end
end

remember('DONE')
for i = KEYS.targets, #KEYS, 3 do
  redis.call('UNLINK', KEYS[i])
  redis.call('RENAME', KEYS[i + 1], KEYS[i])
  -- The version stays: what was rolled back is not older than itself, but what is older than it stays out.
  local ttl = redis.call('PTTL', KEYS[i])
  redis.call('PEXPIRE', KEYS[i + 2], ttl > 0 and string.format('%.0f', ttl) or '${VERSION_TTL_MS}')
end
return 'DONE'
`,
  reply: (raw) => String(raw) === 'DONE',
  check: (liveKeys: readonly string[]) => liveKeys,
  does: (liveKeys) => `Rolling back ${describe(liveKeys[0])}`,
  encode: (liveKeys, space) => ({
    keys: { targets: liveKeys.flatMap((key) => [key, previousOf(space, key), versionOf(space, key)]) },
    args: {},
  }),
  decode: (isDone) => isDone,
});

/** Removes shadows. */
export const discard = defineStep({
  type: 'shadow-keys.discard',
  copies: 'the names of shadows are never used again',
  keys: { '...shadows': 'to be removed' },
  args: {},
  returns: 'nothing',
  lua: `
for i = KEYS.shadows, #KEYS do redis.call('UNLINK', KEYS[i]) end
`,
  reply: () => undefined,
  check: (shadows: readonly string[]) => shadows,
  does: () => 'Removing shadows',
  encode: (shadows) => ({ keys: { shadows }, args: {} }),
  decode: () => undefined,
});

const previousOf = (space: KeySpace, key: string): string => space.colocated('shadow-previous', key);
const versionOf = (space: KeySpace, key: string): string => space.colocated('shadow-version', key);
