import ts from 'typescript';

/** A template literal holds Lua if a line of it begins as a statement of Lua does. */
const luaStatement = /(?:^|\n)\s*(?:local |if .* then|for .* do|return |redis\.p?call\()/;

/** Holes of the template are skipped like strings and comments: nothing inside them is Lua. */
const token =
  /(?<skipped>\$\{[^}]*\}|--\[\[[\s\S]*?\]\]|--[^\n]*|\s+)|(?<string>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|(?<name>[A-Za-z_][\w.]*(?::[A-Za-z_]\w*)?)|(?<number>\d+(?:_\d+)*(?:\.\d+)?)|(?<operator>==|~=|<=|>=|\.\.\.?|[-+*/%^#<>=(){}[\];:,])|(?<other>[\s\S])/g;

const comparisons = { '<': '<=', '<=': '<', '>': '>=', '>=': '>', '==': '~=', '~=': '==' };
const words = { and: 'or', or: 'and', true: 'false', false: 'true' };
/** Options of commands, each with the number of values behind it. */
const options = { PX: 1, PXAT: 1, EX: 1, EXAT: 1, KEEPTTL: 0, NX: 0, XX: 0, GT: 0, LT: 0, LIMIT: 2 };

/** Another key or argument than the one meant fails any test: its place is left alone. */
const isArguments = new Set(['KEYS', 'ARGV']);

/** The changes that are made to the Lua in a TypeScript file: places in its text, and what stands there instead. */
export function luaMutants(source, fileName) {
  const file = ts.createSourceFile(fileName, source, ts.ScriptTarget.Latest, true);
  const found = [];
  const visit = (node) => {
    if (ts.isTemplateExpression(node) || ts.isNoSubstitutionTemplateLiteral(node)) {
      const start = node.getStart() + 1;
      const text = source.slice(start, node.getEnd() - 1);
      if (luaStatement.test(text.replaceAll(/--[^\n]*/g, ''))) found.push(...mutantsOf(text, start));
      return;
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found.toSorted((a, b) => a.start - b.start);
}

function mutantsOf(text, offset) {
  const tokens = tokensOf(text);
  const found = [];
  const add = (mutator, start, end, becomes) =>
    found.push({ mutator: `Lua${mutator}`, start: offset + start, end: offset + end, becomes });
  tokens.forEach(({ kind, value, start, end }, i) => {
    if (kind === 'operator' && comparisons[value]) add('Comparison', start, end, comparisons[value]);
    else if (
      kind === 'operator' &&
      (value === '+' || value === '-') &&
      isOperand(tokens[i - 1]) &&
      tokens[i + 1]?.value !== '0'
    )
      add('Arithmetic', start, end, value === '+' ? '-' : '+');
    else if (kind === 'number' && !(tokens[i - 1]?.value === '[' && isArguments.has(tokens[i - 2]?.value)))
      add('OffByOne', start, end, String(Number(value.replaceAll('_', '')) + 1));
    else if (kind === 'string' && tokens[i - 1]?.value === ',' && value.slice(1, -1) in options) {
      const last = endOfValues(tokens, i, options[value.slice(1, -1)]);
      if (last !== undefined) add('Option', tokens[i - 1].start, last, '');
    } else if (kind === 'name' && words[value]) add('Logic', start, end, words[value]);
    else if (kind === 'name' && value === 'not') add('Logic', start, tokens[i + 1].start, '');
    else if (kind === 'name' && beginsStatement(tokens[i - 1], text, start)) {
      const last = endOfCall(tokens, i);
      if (last !== undefined) add('Call', start, last, '');
    }
  });
  return found;
}

function tokensOf(text) {
  const tokens = [];
  for (const match of text.matchAll(token)) {
    const [kind] = Object.entries(match.groups).find(([, value]) => value !== undefined);
    if (kind !== 'skipped' || match[0].startsWith('${'))
      tokens.push({ kind, value: match[0], start: match.index, end: match.index + match[0].length });
  }
  return tokens;
}

const keywords = new Set(
  'if then else elseif end for in do while repeat until return local function break'.split(' '),
);

function isOperand(before) {
  if (!before) return false;
  if (before.kind === 'name')
    return !keywords.has(before.value) && !words[before.value] && before.value !== 'not';
  return (
    before.kind === 'number' || before.kind === 'skipped' || before.value === ')' || before.value === ']'
  );
}

/** A call that begins a line, or stands behind a word that a statement follows. */
function beginsStatement(before, text, start) {
  if (!before || ['then', 'do', 'else', ';', 'repeat'].includes(before.value)) return true;
  if (/[=,({+\-*/<>~#.]$/.test(before.value) || ['and', 'or', 'not', 'return'].includes(before.value))
    return false;
  return /\n\s*$/.test(text.slice(before.end, start));
}

/** The end of `name(…)` if that is a whole statement. */
function endOfCall(tokens, at) {
  if (keywords.has(tokens[at].value) || tokens[at + 1]?.value !== '(') return undefined;
  const close = closing(tokens, at + 1);
  if (close === undefined) return undefined;
  return ['[', '=', '(', '..', ','].includes(tokens[close + 1]?.value) ? undefined : tokens[close].end;
}

function closing(tokens, open) {
  let depth = 0;
  for (let i = open; i < tokens.length; i++) {
    if ('([{'.includes(tokens[i].value)) depth++;
    else if (')]}'.includes(tokens[i].value) && --depth === 0) return i;
  }
  return undefined;
}

/** The end of an option and the values behind it. */
function endOfValues(tokens, at, values) {
  let depth = 0;
  let left = values + 1;
  for (let i = at; i < tokens.length; i++) {
    const { value } = tokens[i];
    if ('([{'.includes(value)) depth++;
    else if (')]}'.includes(value) && depth-- === 0) return left === 1 ? tokens[i - 1].end : undefined;
    else if (value === ',' && depth === 0 && --left === 0) return tokens[i - 1].end;
  }
  return undefined;
}
