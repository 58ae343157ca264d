import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { Script } from '../../lib/redis/script.js';
import { useRedis } from '../support/redis.js';

const LIB = path.join(__dirname, '../../lib');

/** Every script of the library, by the file it is in: all `*.script.ts` under lib. */
const SCRIPTS = readdirSync(LIB, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.script.ts'))
  .toSorted()
  .flatMap((file) =>
    // oxlint-disable-next-line typescript/no-require-imports -- which files there are is known only now
    Object.values(require(path.join(LIB, file)) as Record<string, Partial<Script> | undefined>)
      .filter((value): value is Script => typeof value?.sha === 'string')
      .map((script) => [file, script] as const),
  );

const isComment = (line: string): boolean => line.trimStart().startsWith('--');
const codeOf = (lua: string): string =>
  lua
    .split('\n')
    .filter((line) => !isComment(line))
    .join('\n');

/**
 * What the header says of KEYS or ARGV: `-- KEYS[2…] keys: …` is `...keys` in place 2. Before the name there may be "the", or "per" before the
 * singular of a list's.
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
  it('are found, one in each file', () => {
    expect(SCRIPTS.length).toBeGreaterThan(5);
    expect(new Set(SCRIPTS.map(([file]) => file)).size).toBe(SCRIPTS.length);
    expect(new Set(SCRIPTS.map(([, { name }]) => name)).size).toBe(SCRIPTS.length);
  });

  describe.each(SCRIPTS)('%s', (_, script) => {
    it.each([
      ['KEYS', script.keys],
      ['ARGV', script.args],
    ] as const)('[SC-5] has a header that tells its %s, by name and in order', (table, declared) => {
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
    ] as const)('[SC-5] takes no %s that it does not declare', (table, declared) => {
      const places = [...codeOf(script.lua).matchAll(new RegExp(`${table}\\[(\\d+)\\]`, 'g'))];
      const highest = Math.max(0, ...places.map(([, place]) => Number(place)));
      const most = declared.at(-1)?.startsWith('...') ? Infinity : declared.length;
      expect(highest).toBeLessThanOrEqual(most);
    });

    it('[SC-5] tells what it returns', () => {
      expect(script.lua).toMatch(/^-- returns /im);
    });

    it('[SC-5] names no key in its text, and builds none', () => {
      const calls = [...codeOf(script.lua).matchAll(/redis\.p?call\(\s*'([A-Z ]+)'\s*(?:,\s*([^,()]+))?/g)];
      for (const [call, , key = ''] of calls) {
        if (/^redis\.p?call\(\s*'(TIME|PUBLISH|SPUBLISH)'/.test(call)) continue;
        expect(key).not.toMatch(/['"]|\.\./);
      }
    });

    it('[SC-5] uses nothing that only some servers or one Lua version have', () => {
      const code = codeOf(script.lua);
      expect(code).not.toMatch(/^\s*#!/);
      expect(code).not.toMatch(
        /cjson|cmsgpack|struct\.|bit\.|loadstring|table\.getn|setfenv|redis\.(replicate|setresp)/,
      );
    });
  });

  describe('on a server', () => {
    const redis = useRedis();

    it.each(SCRIPTS)('[SC-5] %s loads', async (_, script) => {
      expect(await redis.client.script('LOAD', script.lua)).toBe(script.sha);
    });
  });
});
