import { luaNow, luaTime } from '../../lib/scripting/lua.js';
import { commandsOf } from '../support/library-commands.js';
import { LIBRARY_SCRIPTS as SCRIPTS } from '../support/library-scripts.js';
import { useRedis } from '../support/redis.js';

/** Commands of which a copy may come at any time. */
const READING = new Set([
  ...[
    'EXISTS',
    'GET',
    'HEXISTS',
    'HGET',
    'HLEN',
    'HMGET',
    'LINDEX',
    'LLEN',
    'LRANGE',
    'MGET',
    'PTTL',
    'TIME',
    'TYPE',
  ],
  ...['XREVRANGE', 'ZCARD', 'ZCOUNT', 'ZRANGE', 'ZRANGEBYLEX', 'ZRANGEBYSCORE', 'ZRANK', 'ZSCORE'],
]);

/** Gives back what has lapsed by Redis's clock, and nothing else, whenever it arrives. */
const RIGHT_AT_ANY_TIME = new Set(['limits.sweep']);

/** Not on Dragonfly, or only on newer ones of the servers that are supported. */
const NOT_EVERYWHERE = [
  ...[
    'FCALL',
    'FUNCTION',
    'OBJECT',
    'WAITAOF',
    'DEBUG',
    'HGETDEL',
    'HGETEX',
    'HSETEX',
    'HEXPIRE',
    'HPEXPIRE',
  ],
  ...['DELEX', 'DELIFEQ', 'INCREX', 'MSETEX'],
];

const isComment = (line: string): boolean => line.trimStart().startsWith('--');
const codeOf = (lua: string): string =>
  lua
    .split('\n')
    .filter((line) => !isComment(line))
    .join('\n');

/**
 * Parses the header's lines on KEYS or ARGV: `-- KEYS[2…] keys: …` is `...keys` in place 2. Before
 * the name there may be "the", or "per" before the singular of a list's.
 */
function headerOf(lua: string, table: 'KEYS' | 'ARGV'): { place: number; isList: boolean; name: string }[] {
  const line = new RegExp(`^-- ${table}\\[(\\d+)(…?)\\]\\s+(?:the |per )?(\\w+)`, 'gm');
  return [...lua.matchAll(line)].map(([, place, dots, name]) => ({
    place: Number(place),
    isList: dots !== '',
    name: name!,
  }));
}

describe('the scripts of the library', () => {
  it('each have a title and a unique name', () => {
    expect(SCRIPTS.length).toBeGreaterThan(5);
    expect(new Set(SCRIPTS.map(([file]) => file)).size).toBe(SCRIPTS.length);
    expect(new Set(SCRIPTS.map(([, { name }]) => name)).size).toBe(SCRIPTS.length);
  });

  describe.each(SCRIPTS)('%s', (_, script) => {
    it.each([
      ['KEYS', script.keys],
      ['ARGV', script.args],
    ] as const)('[SC-5] has a header that lists its %s, by name and in order', (table, declared) => {
      const told = headerOf(script.lua, table);
      expect(told.map(({ place }) => place)).toEqual(declared.map((__, i) => i + 1));
      declared.forEach((name, i) => {
        expect(told[i]!.isList).toBe(name.startsWith('...'));
        const bare = name.replace('...', '');
        expect([bare, bare.replace(/s$/, '')]).toContain(told[i]!.name);
      });
    });

    it.each([
      ['KEYS', script.keys],
      ['ARGV', script.args],
    ] as const)('[SC-5] (T27) uses no %s that it does not declare', (table, declared) => {
      const places = [...codeOf(script.lua).matchAll(new RegExp(`${table}\\[(\\d+)\\]`, 'g'))];
      const highest = Math.max(0, ...places.map(([, place]) => Number(place)));
      const most = declared.at(-1)?.startsWith('...') ? Infinity : declared.length;
      expect(highest).toBeLessThanOrEqual(most);
    });

    it('[SC-5] documents its return value', () => {
      expect(script.lua).toMatch(/^-- returns /im);
    });

    it('[SC-5] (T27) names no key in its text, and builds none', () => {
      const calls = [...codeOf(script.lua).matchAll(/redis\.p?call\(\s*'([A-Z ]+)'\s*(?:,\s*([^,()]+))?/g)];
      for (const [call, , key = ''] of calls) {
        if (/^redis\.p?call\(\s*'(TIME|PUBLISH|SPUBLISH)'/.test(call)) continue;
        expect(key).not.toMatch(/['"]|\.\./);
      }
    });

    it('[SC-5] never relies on implicit rounding, and keeps long lists off the stack', () => {
      const code = codeOf(script.lua);
      const main = code.replaceAll(/^local function[\s\S]*?^end$/gm, '');
      // A number as a reply is cut by Redis and sent as a double by others: strings go out.
      expect(main).not.toMatch(/return\s+(-?\d|tonumber|math\.|#)/);
      // Spread out by hand, in parts, or of a length that the script knows.
      expect(code).not.toMatch(/unpack\((KEYS|ARGV)/);
      // An error is known by its being one; its text is each server's own.
      expect(code).not.toMatch(/string\.(find|match)\(\s*\w+\.err/);
      expect(code).not.toMatch(/redis\.error_reply|\{\s*err\s*=/);
    });

    it('[SC-5] writes nothing when it arrives late, unless its token fences the write', () => {
      const code = codeOf(script.lua);
      const reads = commandsOf(code).every((command) => READING.has(command));
      // One that is given nothing only reads, whatever the Lua that it shares with others could do.
      if (script.readOnly || reads || script.args.length === 0) return;
      if (RIGHT_AT_ANY_TIME.has(script.name)) return;
      const fenced = script.args.includes('token') || script.args.includes('attempt');
      if (fenced && !script.args.includes('notAfterMs')) return;
      const limit = script.args.findIndex((name) => name === 'notAfterMs' || name === 'validUntilMs');
      expect(limit).toBeGreaterThanOrEqual(0);
      const isLate = new RegExp(
        `(now(_ms\\(\\))?|time_ms) > (tonumber\\(ARGV\\[${limit + 1}\\]\\)|not_after)`,
      );
      expect(code).toMatch(isLate);
    });

    it('[SC-5] uses nothing that is missing on some servers or in some Lua version', () => {
      const code = codeOf(script.lua);
      expect(code).not.toMatch(/^\s*#!/);
      expect(code).not.toMatch(/cjson|cmsgpack|struct\.|bit\.|redis\.(replicate|setresp|acl_check_cmd)/);
      expect(code).not.toMatch(
        /loadstring|[sg]etfenv|table\.(getn|maxn|foreach)|math\.(pow|mod|log10)|gfind/,
      );
      expect(code.replaceAll('table.unpack or unpack', '')).not.toMatch(/unpack/);
      for (const command of commandsOf(code)) expect(NOT_EVERYWHERE).not.toContain(command);
    });

    it('[SC-5] formats numbers explicitly, and floors quotients first', () => {
      const code = codeOf(script.lua);
      // 10 / 2 is 5.0 in Lua 5.4.
      expect(code.replaceAll(/math\.(?:floor|ceil)\([^\n]*/g, '')).not.toMatch(/[\w)\]] \/ [\w(]/);
      expect(code).not.toMatch(/\.\. *\(?(now\b|tonumber|math)/);
      expect(code).not.toMatch(/tostring\([^)]*[-+*/]/);
    });

    it('[SC-5] accepts the time and scores as text or as numbers', () => {
      const code = codeOf(script.lua);
      // TIME is a table of texts, or of numbers.
      const ours = [luaNow, luaTime].map((lua) => codeOf(lua).trim());
      expect(ours.reduce((rest, lua) => rest.replaceAll(lua, ''), code)).not.toContain("'TIME'");
      expect(code.match(/redis\.call\('(ZSCORE|INCRBYFLOAT)'[^\n]*\.\./)).toBeNull();
    });
  });

  describe('on a server', () => {
    const redis = useRedis();

    it.each(SCRIPTS)('[SC-5] %s loads', async (_, script) => {
      expect(await redis.client.script('LOAD', script.lua)).toBe(script.sha);
    });
  });
});
