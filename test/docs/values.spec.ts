import { useExample } from './examples.js';

describe('the example of docs/values.md', () => {
  const example = useExample('docs/values.md');

  it('saves only one of two edits that began from the same setting', async () => {
    const save = (expected: string | null, next: string) =>
      example.send('PUT', '/settings/greeting', { expected, next });
    expect(await save(null, 'hello')).toMatchObject({ status: 200, body: { current: 'hello' } });
    const both = await Promise.all([save('hello', 'hi'), save('hello', 'hey')]);
    const [saved, refused] = both.toSorted((a, b) => a.status - b.status);
    expect([saved!.status, refused!.status]).toEqual([200, 409]);
    expect(refused!.body).toMatchObject({ current: (saved!.body as { current: string }).current });
  });

  it('lets an invitation be used once', async () => {
    await example.send('PUT', '/invitations/x7', { email: 'ada@example.org' });
    const uses = await Promise.all(
      Array.from({ length: 10 }, () => example.send('POST', '/invitations/x7/use')),
    );
    expect(uses.filter(({ status }) => status === 201).map(({ body }) => body)).toEqual([
      { email: 'ada@example.org' },
    ]);
    expect(uses.filter(({ status }) => status === 410)).toHaveLength(9);
  });
});
