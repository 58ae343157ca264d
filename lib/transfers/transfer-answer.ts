import { luaInt64 } from '../scripting/lua-int64.js';
import { luaTextAt } from '../scripting/lua.js';

/**
 * The first word of the answers of transfer scripts. Every answer but `Moved` means that nothing
 * was changed.
 */
export const Answer = {
  Moved: 'moved',
  InsufficientFunds: 'insufficient',
  /** A balance would not fit into 64 bits. */
  Overflow: 'overflow',
  /** A balance would not be exact as a JavaScript number. */
  Inexact: 'inexact',
  /** A key holds a string that is no 64-bit integer as Redis spells one. */
  NotAnInteger: 'not-an-integer',
  /** A key is of another type than its use asks for. */
  WrongType: 'wrong-type',
} as const;

/**
 * Defines `balance_at(key)`, which returns three values: the balance, 0 where there is none; true
 * where there is none; the answer that says why it is no balance.
 */
export const luaBalance = `${luaInt64}${luaTextAt}
local function balance_at(key)
  local text, is_other_type = text_at(key)
  if is_other_type then return nil, false, '${Answer.WrongType}' end
  if not text then return INT64_ZERO, true, nil end
  local balance = int64_parse(text)
  return balance, false, not balance and '${Answer.NotAnInteger}' or nil
end
`;
