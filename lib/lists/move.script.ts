import { luaOperation } from '../redis/lua-operation.js';
import { defineScript } from '../redis/script.js';

/** What the script answers instead of an element. */
const ANSWER_EMPTY = 'EMPTY';

/** Moves an element from one end of a list to one end of another. */
export const moveScript = defineScript({
  name: 'lists.move',
  keys: ['marker', 'source', 'destination'],
  args: ['notAfterMs', 'keepMarker', 'from', 'to'],
  binary: true,
  lua: `
-- KEYS[1] marker       kept answer, by which a copy is known
-- KEYS[2] source       list
-- KEYS[3] destination  list
-- ARGV[1] notAfterMs   server time in ms past which nothing is done
-- ARGV[2] keepMarker   '1' or ''
-- ARGV[3] from         LEFT | RIGHT: the end of the source
-- ARGV[4] to           LEFT | RIGHT: the end of the destination
-- returns '=' .. element | EMPTY | TOO_LATE | SOURCE_IS_NO_LIST | DESTINATION_IS_NO_LIST
${luaOperation}
local stored = recall()
if stored then return stored end
if is_late() then return 'TOO_LATE' end
local at = 0
if ARGV[3] == 'RIGHT' then at = -1 end
local element = redis.pcall('LINDEX', KEYS[2], at)
if type(element) == 'table' then return 'SOURCE_IS_NO_LIST' end
if not element then return remember('${ANSWER_EMPTY}') end
if type(redis.pcall('LLEN', KEYS[3])) == 'table' then return 'DESTINATION_IS_NO_LIST' end

remember('=' .. element)
redis.call('LMOVE', KEYS[2], KEYS[3], ARGV[3], ARGV[4])
return '=' .. element
`,
  reply: (raw) => {
    const bytes = raw as Buffer;
    // '='
    if (bytes[0] === 0x3d) return { element: bytes.subarray(1) };
    const refused = bytes.toString();
    return refused === ANSWER_EMPTY ? { element: null } : { refused };
  },
});
