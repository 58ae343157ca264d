import { setImmediate as round } from 'node:timers/promises';
import { TickBatcher } from '../../lib/runtime/tick-batcher.js';

describe('TickBatcher', () => {
  let sent: { items: string[]; terms: unknown }[];

  beforeEach(() => (sent = []));

  const batcherOf = (maxSize: number, join?: (a: string, b: string) => string | undefined) =>
    new TickBatcher<string, string>({
      maxSize,
      ...(join && { join }),
      send: (items, terms) => sent.push({ items, terms }),
    });

  /** Resolves at the end of this turn, behind what was to leave with it. */
  const turn = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));

  it('passes on the items of one turn together, in their order, and none before its end', async () => {
    const batcher = batcherOf(10);
    batcher.add('a', 1, '');
    batcher.add('b', 1, '');
    expect(sent).toEqual([]);
    await turn();
    expect(sent).toEqual([{ items: ['a', 'b'], terms: '' }]);
    batcher.add('c', 1, '');
    await turn();
    expect(sent.map(({ items }) => items)).toEqual([['a', 'b'], ['c']]);
  });

  it('includes items of the microtasks that follow in the same turn', async () => {
    const batcher = batcherOf(10);
    await round();
    batcher.add('a', 1, '');
    void Promise.resolve()
      .then(() => Promise.resolve())
      .then(() => batcher.add('b', 1, ''));
    await round();
    expect(sent.map(({ items }) => items)).toEqual([['a', 'b']]);
  });

  it('sends a full batch at once, and the rest at the end of the turn', async () => {
    const batcher = batcherOf(4);
    batcher.add('a', 3, '');
    batcher.add('b', 1, '');
    expect(sent.map(({ items }) => items)).toEqual([['a', 'b']]);
    batcher.add('c', 1, '');
    batcher.add('d', 9, '');
    expect(sent.map(({ items }) => items)).toEqual([
      ['a', 'b'],
      ['c', 'd'],
    ]);
    batcher.add('e', 1, '');
    await turn();
    expect(sent.map(({ items }) => items)).toEqual([['a', 'b'], ['c', 'd'], ['e']]);
  });

  it('merges the terms of a batch’s items, and begins another batch if two cannot be merged', async () => {
    const batcher = batcherOf(10, (a, b) => (a === '' || b === '' || a === b ? a || b : undefined));
    batcher.add('a', 1, '');
    batcher.add('b', 1, 'x');
    batcher.add('c', 1, '');
    batcher.add('d', 1, 'y');
    expect(sent).toEqual([{ items: ['a', 'b', 'c'], terms: 'x' }]);
    await turn();
    expect(sent[1]).toEqual({ items: ['d'], terms: 'y' });
  });

  it('holds patient items for the whole round of the event loop, unless an impatient one arrives', async () => {
    const batcher = batcherOf(10);
    batcher.add('a', 1, '', true);
    await turn();
    batcher.add('b', 1, '', true);
    expect(sent).toEqual([]);
    await round();
    expect(sent.map(({ items }) => items)).toEqual([['a', 'b']]);

    batcher.add('c', 1, '', true);
    batcher.add('d', 1, '');
    await turn();
    expect(sent[1]!.items).toEqual(['c', 'd']);
    await round();
    expect(sent).toHaveLength(2);
  });

  it('keeps its order if sending adds items', async () => {
    const order: string[] = [];
    const batcher: TickBatcher<string> = new TickBatcher({
      maxSize: 2,
      send: (items) => {
        order.push(...items);
        if (items.includes('a')) batcher.add('c', 1, undefined);
      },
    });
    batcher.add('a', 1, undefined);
    batcher.add('b', 1, undefined);
    await turn();
    expect(order).toEqual(['a', 'b', 'c']);
  });
});
