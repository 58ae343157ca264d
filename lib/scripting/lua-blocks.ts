/** Comments, strings and words of Lua, in the order in which they must be matched. */
const TOKENS =
  /--\[(=*)\[[\s\S]*?(?:\]\1\]|$)|--[^\n]*|\[(=*)\[[\s\S]*?(?:\]\2\]|$)|"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\[\s\S]|[^'\\\n])*'|[A-Za-z_][A-Za-z0-9_]*|\n/g;

/**
 * Words that begin a block, and the word that ends it. `while` and `for` lead to a `do`, which is
 * the one that counts.
 */
const BEGINS: Readonly<Record<string, string>> = {
  function: 'end',
  do: 'end',
  if: 'end',
  repeat: 'until',
};

/**
 * Describes a mistake in the blocks of a Lua text that stands inside a function of the library's:
 * one `end` too many would end that function, and the text behind it would run outside. Undefined
 * if there is none. Redis reports all other mistakes.
 */
export function blocksProblem(lua: string): string | undefined {
  const open: { readonly word: string; readonly line: number }[] = [];
  let line = 1;
  for (const [token] of lua.matchAll(TOKENS)) {
    if (Object.hasOwn(BEGINS, token)) {
      open.push({ word: token, line });
    } else if (token === 'end' || token === 'until') {
      const begun = open.pop();
      if (!begun) return `"${token}" in line ${line} ends nothing`;
      if (BEGINS[begun.word] !== token)
        return `"${token}" in line ${line} cannot end the "${begun.word}" of line ${begun.line}`;
    } else {
      line += token.split('\n').length - 1;
    }
  }
  return undefined;
}
