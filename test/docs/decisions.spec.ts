import { pages, textOf } from './examples.js';

const INDEX = 'docs/decisions/index.md';

describe('the decision records', () => {
  const records = pages()
    .filter((page) => page.startsWith('docs/decisions/') && page !== INDEX)
    .flatMap((page) =>
      textOf(page)
        .split(/^## /m)
        .slice(1)
        .map((text) => ({ page, title: text.split('\n', 1)[0]!, text })),
    );

  it('[DOC-7] each have a context, a decision, consequences and evidence', () => {
    const parts = records.map(({ page, title, text }) => {
      const found = [...text.matchAll(/^- \*\*(\w+)\.\*\* \S/gm)].map(([, part]) => part);
      return `${page}: ${title}: ${found.join(', ')}`;
    });
    expect(parts).toEqual(
      records.map(({ page, title }) => `${page}: ${title}: Context, Decision, Consequences, Evidence`),
    );
    expect(records.length).toBeGreaterThan(50);
  });

  it('[DOC-7] are each listed in the index by their title', () => {
    const titles = [...textOf(INDEX).matchAll(/^- \[(.+)\]\(/gm)].map(([, title]) => title!);
    expect(titles.toSorted()).toEqual(records.map(({ title }) => title).toSorted());
  });
});
