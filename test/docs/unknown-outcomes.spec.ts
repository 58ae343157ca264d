import { useExample } from './examples.js';

describe('docs/unknown-outcomes.md', () => {
  const example = useExample('docs/unknown-outcomes.md');

  it('[ID-56] lists a payout that the bank did not answer, and settles it', async () => {
    const pay = (key: string) => example.send('POST', '/payouts/7', {}, { 'idempotency-key': key });
    expect((await pay('a')).status).toBe(500);
    expect((await pay('a')).status).toBe(503);
    const held = async () =>
      ((await example.send('GET', '/ops/held')).body as { keys: { record: string; steps: unknown }[] }).keys;
    const [key] = await held();
    expect(key).toMatchObject({
      operation: 'POST /payouts/:id',
      steps: [{ name: 'transfer', state: 'begun' }],
    });
    const { record } = key!;
    const response = { status: 201, body: { id: '7', transfer: 'found by hand' } };
    const settled = await example.send('POST', '/ops/held/settle', { record, response });
    expect(settled.body).toEqual({ settled: true });
    expect(await pay('a')).toMatchObject(response);
    expect(await held()).toEqual([]);

    await pay('b');
    const [other] = await held();
    const forgotten = await example.send('POST', '/ops/held/forget', { record: other!.record });
    expect(forgotten.body).toEqual({ forgotten: true });
    expect((await pay('b')).status).toBe(500);
  });
});
