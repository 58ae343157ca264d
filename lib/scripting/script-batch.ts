import { defineScript, type Script } from './script.js';

/**
 * A script that makes several calls of another by one EVALSHA. Its keys and arguments are those of
 * each call, one call after the other.
 */
export type ScriptBatch = Script<readonly ['...keys'], readonly ['...args'], readonly unknown[]>;

const batches = new WeakMap<Script, ScriptBatch>();

const isList = (name: string): boolean => name.startsWith('...');

/**
 * Returns the batch of a script whose calls all have the same number of keys and arguments;
 * undefined for any other.
 */
export function scriptBatchOf(script: Script): ScriptBatch | undefined {
  if (script.args.length === 0 || script.args.some(isList) || script.keys.some(isList)) return undefined;
  let batch = batches.get(script);
  if (!batch) batches.set(script, (batch = defineBatch(script)));
  return batch;
}

/**
 * Defines the batch of a script. An error that one call raises is the answer of that call alone;
 * the others are made all the same.
 */
function defineBatch({ name, keys, args, opening, body, binary, readOnly }: Script): ScriptBatch {
  // One table for all calls: most of what a short call costs would be a new one. So the body of a
  // script reads single elements of KEYS and ARGV, and neither returns nor changes the tables.
  const fill = (table: string, all: string, { length }: readonly string[]): string =>
    Array.from({ length }, (_, i) => `${table}[${i + 1}] = ${all}[i * ${length} + ${i + 1}]`).join('\n  ');
  return defineScript({
    name: `${name} (several)`,
    keys: ['...keys'],
    args: ['...args'],
    binary,
    readOnly,
    lua: `
-- KEYS[1…] keys  those of each call, one call after the other
-- ARGV[1…] args  likewise
-- returns what each call returned, or the error that it raised
${opening}
local call = function(KEYS, ARGV)
${body}
end
local keys, args = {}, {}
local function call_one() return call(keys, args) end
-- What a command raised is a table that holds the error with its code. Redis's pcall makes a mere text of it, which a client would take for an ERR.
-- Dragonfly raises the text alone.
local function failure(raised)
  if type(raised) == 'table' and raised.err then return { err = raised.err } end
  return { err = 'ERR Error running script (call to one): ' .. tostring(raised) }
end
local answers = {}
for i = 0, #ARGV / ${args.length} - 1 do
  ${fill('keys', 'KEYS', keys)}
  ${fill('args', 'ARGV', args)}
  local _, answer = xpcall(call_one, failure)
  if answer == nil then answer = false end
  answers[i + 1] = answer
end
return answers
`,
    reply: (raw) => raw as readonly unknown[],
  });
}
