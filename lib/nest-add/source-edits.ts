/**
 * The source with the module imported at the end of `@Module`'s imports; undefined where its form
 * is not recognised.
 */
export function importModule(source: string, call: string): string | undefined {
  const withEntry = addToImports(source, call);
  if (withEntry === undefined) return undefined;
  const line = `import { AtomicRedisModule } from 'nestjs-atomic-redis';\n`;
  const last = [...withEntry.matchAll(/^import [^;]*? from ['"][^'"]+['"];?[^\S\n]*\n/gm)].at(-1);
  const at = last ? last.index + last[0].length : 0;
  return withEntry.slice(0, at) + line + withEntry.slice(at);
}

function addToImports(source: string, call: string): string | undefined {
  const decorator = /@Module\(\s*\{/.exec(source);
  if (!decorator) return undefined;
  const start = decorator.index + decorator[0].length;
  const imports = /^([^{}()]*?)\bimports\s*:\s*\[/.exec(source.slice(start));
  if (!imports) {
    if (/\bimports\s*[:,}]/.test(source.slice(start))) return undefined;
    return `${source.slice(0, start)}\n  imports: [\n    ${indented(call)},\n  ],${source.slice(start)}`;
  }
  const opened = start + imports[0].length;
  const end = closingBracket(source, opened);
  if (end === undefined) return undefined;
  const entries = source.slice(opened, end).trimEnd().replace(/,$/, '');
  const before = entries.trim() === '' ? '' : `${entries},`;
  return `${source.slice(0, opened)}${before}\n    ${indented(call)},\n  ${source.slice(end)}`;
}

const indented = (call: string): string => call.replaceAll('\n', '\n    ');

/**
 * The index of the bracket that closes the one before `from`; undefined where strings or comments
 * make that unsure.
 */
function closingBracket(source: string, from: number): number | undefined {
  let depth = 1;
  for (let at = from; at < source.length; at++) {
    const char = source[at]!;
    if (char === '/' && (source[at + 1] === '/' || source[at + 1] === '*')) return undefined;
    if (char === "'" || char === '"' || char === '`') {
      const end = source.indexOf(char, at + 1);
      if (end < 0 || source.slice(at, end).includes('\\')) return undefined;
      at = end;
    } else if ('[({'.includes(char)) depth++;
    else if ('])}'.includes(char) && --depth === 0) return char === ']' ? at : undefined;
  }
  return undefined;
}

/**
 * The source with `app.enableShutdownHooks()` before `app.listen()`; undefined where its form is
 * not recognised.
 */
export function enableShutdownHooks(source: string): string | undefined {
  const listen = /^([^\S\n]*)(?:await\s+)?(\w+)\.listen\(/m.exec(source);
  if (!listen) return undefined;
  const line = `${listen[1]}${listen[2]}.enableShutdownHooks();\n`;
  return source.slice(0, listen.index) + line + source.slice(listen.index);
}

/** The text of a .env file with the variable, unless it is there already. */
export function withVariable(env: string, name: string, value: string): string {
  if (new RegExp(`^\\s*(?:export\\s+)?${name}\\s*=`, 'm').test(env)) return env;
  return `${env}${env === '' || env.endsWith('\n') ? '' : '\n'}${name}=${value}\n`;
}
