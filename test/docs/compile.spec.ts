import path from 'node:path';
import ts from 'typescript';
import { examplesOf, extract, pages } from './examples.js';

describe('the examples of the documentation', () => {
  it('[DOC-1] compile', () => {
    const root = path.join(__dirname, '../..');
    const config = ts.getParsedCommandLineOfConfigFile(
      path.join(root, 'tsconfig.json'),
      { noEmit: true },
      ts.sys as never,
    )!;
    const extracted = extract(
      'compile',
      pages().flatMap((page) => examplesOf(page).map((example) => `// ${page}\n${example}`)),
    );
    try {
      const program = ts.createProgram(extracted.files, config.options);
      const messages = extracted.files.flatMap((file) => {
        const source = program.getSourceFile(file)!;
        return ts
          .getPreEmitDiagnostics(program, source)
          .map(
            ({ messageText }) =>
              `${source.text.split('\n', 1)[0]}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`,
          );
      });
      expect(extracted.files.length).toBeGreaterThan(0);
      expect(messages).toEqual([]);
    } finally {
      extracted.remove();
    }
  }, 120_000);
});
