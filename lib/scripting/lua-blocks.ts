/** Comments, strings and words of blocks in Lua, in the order in which they must be matched. */
const TOKENS =
  /--\[(=*)\[[\s\S]*?(?:\]\1\]|$)|--[^\n]*|\[(=*)\[[\s\S]*?(?:\]\2\]|$)|"(?:\\[\s\S]|[^"\\\n])*"|'(?:\\[\s\S]|[^'\\\n])*'|\b(?:function|do|if|repeat|end|until)\b/g;

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
  const open: RegExpExecArray[] = [];
  const lineOf = ({ index }: RegExpExecArray): number => lua.slice(0, index).split('\n').length;
  for (const token of lua.matchAll(TOKENS)) {
    const [word] = token;
    if (Object.hasOwn(BEGINS, word)) {
      open.push(token);
    } else if (word === 'end' || word === 'until') {
      const begun = open.pop();
      if (!begun) return `"${word}" in line ${lineOf(token)} ends nothing`;
      if (BEGINS[begun[0]] !== word)
        return `"${word}" in line ${lineOf(token)} cannot end the "${begun[0]}" of line ${lineOf(begun)}`;
    }
  }
  return undefined;
}
