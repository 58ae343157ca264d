import { describe, WrongTypeError } from '../atomic-redis.errors.js';
import { defineOperation } from '../operations/operation.js';
import { luaOtherType } from '../scripting/lua.js';

/** A move, checked. */
interface Move {
  readonly source: string;
  readonly destination: string;
  /** LEFT or RIGHT. */
  readonly from: string;
  readonly to: string;
}

/** The script's answers in place of an element. */
const Answer = {
  Empty: 'EMPTY',
  SourceType: 'SOURCE_IS_NO_LIST',
  DestinationType: 'DESTINATION_IS_NO_LIST',
} as const;

/**
 * Moves an element from one end of a list to one end of another. Its result is the element, or null
 * if the source is empty.
 */
export const move = defineOperation({
  type: 'lists.move',
  keys: { source: 'list', destination: 'list' },
  args: { from: 'LEFT | RIGHT: the end of the source', to: 'LEFT | RIGHT: the end of the destination' },
  returns: "'=' .. element | EMPTY | SOURCE_IS_NO_LIST | DESTINATION_IS_NO_LIST",
  lua: `
local at = 0
if ARGV.from == 'RIGHT' then at = -1 end
local element = redis.pcall('LINDEX', KEYS.source, at)
if type(element) == 'table' then
  ${luaOtherType('list', 'KEYS.source', "redis.call('LINDEX', KEYS.source, at)")}
  return '${Answer.SourceType}'
end
if not element then return remember('${Answer.Empty}') end
if type(redis.pcall('LLEN', KEYS.destination)) == 'table' then
  ${luaOtherType('list', 'KEYS.destination', "redis.call('LLEN', KEYS.destination)")}
  return '${Answer.DestinationType}'
end

remember('=' .. element)
redis.call('LMOVE', KEYS.source, KEYS.destination, ARGV.from, ARGV.to)
return '=' .. element
`,
  binary: true,
  reply: (raw): { readonly element: Buffer } | { readonly refusal: string } => {
    const bytes = raw as Buffer;
    // '='
    return bytes[0] === 0x3d ? { element: bytes.subarray(1) } : { refusal: bytes.toString() };
  },
  check: (call: Move) => call,
  does: ({ source }) => `Moving from list ${describe(source)}`,
  encode: ({ source, destination, from, to }) => ({ keys: { source, destination }, args: { from, to } }),
  decode: (answer, { source, destination }): Buffer | null => {
    if ('element' in answer) return answer.element;
    if (answer.refusal === Answer.Empty) return null;
    throw new WrongTypeError(answer.refusal === Answer.SourceType ? source : destination, 'list');
  },
  changed: (answer) => 'element' in answer,
});
