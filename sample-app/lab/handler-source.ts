import { readFile } from 'node:fs/promises';

/** The shop's sources, seen from where they are built to. */
const SOURCES = new URL('../../../sample-app/', import.meta.url);

export interface HandlerSource {
  /** In the repository. */
  file: string;
  code: string;
}

/**
 * The text of one method with its comment and decorators, from the file that it was compiled from:
 * what is shown is what runs.
 *
 * @param name `file#method`, the file below sample-app
 */
export async function sourceOf(name: string): Promise<HandlerSource> {
  const [file, method] = name.split('#') as [string, string];
  const lines = (await readFile(new URL(file, SOURCES), 'utf8')).split('\n');
  // Prettier indents the members of a class by two, and ends them at that depth.
  const signature = lines.findIndex((line) => new RegExp(`^  (private )?(async )?${method}\\(`).test(line));
  const end = lines.indexOf('  }', signature);
  if (signature < 0 || end < 0) throw new Error(`${file} has no method ${method}`);
  let begin = signature;
  while (lines[begin - 1] !== '' && !lines[begin - 1]!.endsWith(' {')) begin -= 1;
  const code = lines.slice(begin, end + 1).map((line) => line.slice(2));
  return { file: `sample-app/${file}`, code: code.join('\n') };
}
