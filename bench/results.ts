import { existsSync, readFileSync, writeFileSync } from 'node:fs';

const FILE = 'bench/results.md';

const HEAD = `# Results

Written by \`npm run bench\`, client and server on the same machine, the contestants in turns. Each
section says when, on which server and on which Node.js it was measured. Rates are those of the
machine; what carries over is the ratios, of medians. [How to read them](../docs/performance.md).
`;

/**
 * Puts a section in the place of the one of the same title, and leaves the others.
 * @param titles of all sections there can be, in their order
 */
export function record(title: string, section: string, titles: readonly string[]): void {
  const all = new Map(existsSync(FILE) ? sectionsOf(readFileSync(FILE, 'utf8')) : []).set(title, section);
  const placeOf = (of: string): number => {
    const place = titles.findIndex((known) => of === known || of.startsWith(`${known}, on `));
    return place < 0 ? titles.length : place;
  };
  const sorted = [...all].toSorted(([a], [b]) => placeOf(a) - placeOf(b) || a.length - b.length);
  writeFileSync(FILE, [HEAD, ...sorted.map(([name, body]) => `## ${name}\n\n${body}\n`)].join('\n'));
}

function sectionsOf(text: string): [string, string][] {
  return text
    .split(/^## /m)
    .slice(1)
    .map((section) => {
      const end = section.indexOf('\n');
      return [section.slice(0, end).trim(), section.slice(end).trim()];
    });
}
