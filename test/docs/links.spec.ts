import { existsSync } from 'node:fs';
import path from 'node:path';
import { pages, textOf } from './examples.js';

const ROOT = path.join(__dirname, '../..');

const withoutCode = (text: string): string =>
  text.replaceAll(/```[\s\S]*?```/g, '').replaceAll(/`[^`\n]*`/g, (code) => code.replaceAll(/[[\]()]/g, ' '));

/** Returns the anchors that GitHub makes of headings. */
function anchorsOf(page: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading] of textOf(page)
    .replaceAll(/```[\s\S]*?```/g, '')
    .matchAll(/^#{1,6} (.+)$/gm)) {
    const slug = heading!
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .trim()
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\p{M}\- _]/gu, '')
      .replaceAll(' ', '-');
    let anchor = slug;
    for (let i = 1; anchors.has(anchor); i++) anchor = `${slug}-${i}`;
    anchors.add(anchor);
  }
  return anchors;
}

interface Link {
  readonly page: string;
  readonly target: string;
  /** Relative to the repository; the page itself for a link within it. */
  readonly file: string;
  readonly anchor: string | undefined;
}

const linksOf = (page: string): Link[] =>
  [...withoutCode(textOf(page)).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target]) => target!)
    .filter((target) => !/^[a-z]+:/.test(target))
    .map((target) => {
      const [file, anchor] = target.split('#') as [string, string | undefined];
      return { page, target, file: file === '' ? page : path.join(path.dirname(page), file), anchor };
    });

describe('the documentation', () => {
  const links = pages().flatMap((page) => linksOf(page));

  it('[DOC-4] has no dead link', () => {
    const dead = links.filter(
      ({ file, anchor }) =>
        !existsSync(path.join(ROOT, file)) ||
        (anchor !== undefined && !(file.endsWith('.md') && anchorsOf(file).has(anchor))),
    );
    expect(dead.map(({ page, target }) => `${page}: ${target}`)).toEqual([]);
    expect(links.length).toBeGreaterThan(100);
  });

  it('[DOC-4] lists every page in its index, and README.md links the index', () => {
    const named = new Set(links.filter(({ page }) => page === 'docs/README.md').map(({ file }) => file));
    const orphans = pages().filter(
      (page) => !['README.md', 'docs/README.md'].includes(page) && !named.has(page),
    );
    expect(orphans).toEqual([]);
    expect(links.some(({ page, file }) => page === 'README.md' && file === 'docs/README.md')).toBe(true);
  });
});
