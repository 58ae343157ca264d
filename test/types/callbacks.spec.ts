import { readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';

const FILE = path.join(__dirname, 'callbacks.ts');
const source = readFileSync(FILE, 'utf8');

/** Lines with a type error, counted from 1, when the file reads as `text`. */
function errorLines(text: string): number[] {
  const config = ts.getParsedCommandLineOfConfigFile(
    path.join(__dirname, '../../tsconfig.json'),
    { noEmit: true },
    ts.sys as never,
  )!;
  const host = ts.createCompilerHost(config.options);
  const read = host.getSourceFile.bind(host);
  host.getSourceFile = (name, ...rest) =>
    path.resolve(name) === FILE
      ? ts.createSourceFile(name, text, ts.ScriptTarget.ES2023)
      : read(name, ...rest);
  const program = ts.createProgram([FILE], config.options, host);
  const file = program.getSourceFile(FILE)!;
  return program
    .getSemanticDiagnostics(file)
    .map(({ start }) => file.getLineAndCharacterOfPosition(start!).line + 1);
}

describe('types of the decorators and of transactions', () => {
  it('[WRAP-5] accept matching callbacks, commands and options', () => {
    expect(errorLines(source)).toEqual([]);
  });

  it('[WRAP-5] [QU-31] compile no callback, command or option that does not match', () => {
    const expected = source
      .split('\n')
      .flatMap((line, i) => (line.includes('@ts-expect-error') ? [i + 1] : []));
    const unsuppressed = source.replaceAll('@ts-expect-error', 'an error belongs below:');
    // On the line below the comment, or, for a decorator, wherever in the member TypeScript puts
    // it.
    const lines = errorLines(unsuppressed);
    for (const line of expected) expect(lines.some((found) => found > line && found <= line + 2)).toBe(true);
    expect(expected.length).toBeGreaterThan(10);
  });
});
