import { LeaseLostError } from '../atomic-redis.errors.js';
import { defineScript, type Script } from '../scripting/script.js';

/** The reply in place of a script's own if the permit is not held. */
const PERMIT_LOST = 'PERMIT_LOST';

const enforced = new WeakMap<Script, Script>();

/**
 * Returns the form of an operation's script that does nothing unless a permit is held: its first
 * key holds its first argument. A copy of an operation that was done under the permit gets the
 * stored answer, whatever became of the permit since.
 */
export function enforcedScript(script: Script): Script {
  let form = enforced.get(script);
  if (!form) enforced.set(script, (form = defineEnforced(script)));
  return form;
}

/**
 * The marker and its switch stand in front of the keys and arguments of each operation; a permit
 * once lost is never held again.
 */
const defineEnforced = ({ name, keys, args, lua, binary, readOnly, reply }: Script): Script =>
  defineScript({
    name: `${name} (under a permit)`,
    keys: ['permit', ...keys],
    args: ['permitToken', ...args],
    binary,
    readOnly,
    // On one line with its text, so that Lua's errors count lines as before.
    lua: `local call = function(KEYS, ARGV) ${lua.trimStart()}
end
-- KEYS[1] permit       the holder's own key
-- KEYS[2…]             those of the operation, its marker first
-- ARGV[1] permitToken  what that key holds while the permit is held
-- ARGV[2…]             those of the operation: time limit, switch of the marker, …
-- returns PERMIT_LOST | what the operation returns
local is_copy = ARGV[3] ~= '' and redis.call('EXISTS', KEYS[2]) == 1
if not is_copy and redis.call('GET', KEYS[1]) ~= ARGV[1] then return '${PERMIT_LOST}' end
local keys, args = {}, {}
for i = 2, #KEYS do keys[i - 1] = KEYS[i] end
for i = 2, #ARGV do args[i - 1] = ARGV[i] end
return call(keys, args)
`,
    reply: (raw) => {
      if (raw === PERMIT_LOST || (Buffer.isBuffer(raw) && raw.toString('latin1') === PERMIT_LOST))
        throw new LeaseLostError('not-applied');
      return reply(raw);
    },
  });
