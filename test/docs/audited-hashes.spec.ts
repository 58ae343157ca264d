import { useExample } from './examples.js';

describe('the example of docs/audited-hashes.md', () => {
  const example = useExample('docs/audited-hashes.md');

  it('logs each change with its author, in one chain', async () => {
    const change = (value: number) =>
      example.send('PUT', '/products/tea/price', { value: String(value), changedBy: `clerk ${value}` });
    await Promise.all(Array.from({ length: 30 }, (_, i) => change(i)));
    expect((await example.send('DELETE', '/products/tea/price')).status).toBe(200);

    interface Page {
      entries: { old: string | null; new: string | null; actor: string | null }[];
      next: string | null;
    }
    const first = (await example.send('GET', '/products/tea/history')).body as Page;
    const second = (await example.send('GET', `/products/tea/history?before=${first.next}`)).body as Page;
    expect(second.next).toBeNull();
    const entries = [...first.entries, ...second.entries].toReversed();
    expect(entries).toHaveLength(31);
    for (const [i, entry] of entries.entries()) {
      expect(entry.old).toBe(i === 0 ? null : entries[i - 1]!.new);
      expect(entry.actor).toBe(entry.new === null ? null : `clerk ${entry.new}`);
    }
  });
});
