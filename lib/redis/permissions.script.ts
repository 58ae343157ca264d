import { defineScript } from './script.js';

/**
 * Writes nothing: it asks Redis what the user may, and for what there is no such command. Servers that cannot be asked answer nothing.
 *
 * Whatever place in a command keys and channels have, there must be something: without arguments `acl_check_cmd` ends the server (SIGSEGV, Redis 7.0 to 8.0 and
 * Valkey 8.1 to 9.1), since it looks for keys without counting the arguments first.
 */
export const permissionsScript = defineScript({
  name: 'server-check.permissions',
  keys: [],
  args: ['name', '...commands'],
  readOnly: true,
  lua: `
-- ARGV[1]   name       of a key and channel in the namespace
-- ARGV[2…]  commands   each of one or two words
-- returns the commands that are unknown or refused
if not redis.acl_check_cmd then return {} end
local refused = {}
for i = 2, #ARGV do
  local words = {}
  for word in string.gmatch(ARGV[i], '[^ ]+') do words[#words + 1] = word end
  for n = #words + 1, 16 do words[n] = ARGV[1] end
  local known, allowed = pcall(redis.acl_check_cmd, (table.unpack or unpack)(words))
  if not known or not allowed then refused[#refused + 1] = ARGV[i] end
end
return refused
`,
  reply: (raw) => raw as string[],
});
