import { spawnSync } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { resolve } from 'node:path';

/** The mutants of a file that defines a script with this Lua: `<mutator> <text> → <replacement>`. */
function mutantsOf(lua: string): string[] {
  const source = `export const script = defineScript({ lua: \`\nlocal t = {}\n${lua}\n\` });`;
  const program = `
    import { luaMutants } from ${JSON.stringify(pathToFileURL(resolve('scripts/mutants/lua-mutator.mjs')).href)};
    const source = ${JSON.stringify(source)};
    const show = ({ mutator, start, end, becomes }) => mutator + ' ' + source.slice(start, end) + ' → ' + becomes;
    console.log(JSON.stringify(luaMutants(source, 'a.ts').map(show)));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
  });
  if (!stdout) throw new Error(stderr);
  return JSON.parse(stdout) as string[];
}

it('the mutator of Lua drops calls and options, swaps comparisons and moves numbers by one', () => {
  const mutants = mutantsOf(`
-- redis.call('DEL', KEYS[1]) < 1
if t.n <= 10 and not t.done then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], 'a < 1', 'PX', ARGV[2])
local kept = redis.pcall('SET', KEYS[1], f(1, 2), 'PXAT', t.ends, 'NX')
t[#t + 1] = \${HOLE < 2}
return ARGV[1] + 0`);
  expect(mutants).toEqual([
    'LuaComparison <= → <',
    'LuaOffByOne 10 → 11',
    'LuaLogic and → or',
    'LuaLogic not  → ',
    "LuaCall redis.call('DEL', KEYS[1]) → ",
    "LuaCall redis.call('SET', KEYS[1], 'a < 1', 'PX', ARGV[2]) → ",
    "LuaOption , 'PX', ARGV[2] → ",
    'LuaOffByOne 1 → 2',
    'LuaOffByOne 2 → 3',
    "LuaOption , 'PXAT', t.ends → ",
    "LuaOption , 'NX' → ",
    'LuaArithmetic + → -',
    'LuaOffByOne 1 → 2',
    'LuaOffByOne 0 → 1',
  ]);
});
