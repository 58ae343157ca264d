import { useExample } from './examples.js';

describe('docs/stuck-keys.md', () => {
  const example = useExample('docs/stuck-keys.md');

  it('[ID-16] has routes that look a key up and free it by its record', async () => {
    const key = { record: 'shop:idempotency:of-no-call' };
    expect((await example.send('POST', '/ops/keys/inspect', key)).body).toEqual({ found: null });
    expect((await example.send('POST', '/ops/keys/forget', key)).body).toEqual({ freed: false });
    expect((await example.send('POST', '/ops/keys/forget', { record: 'shop:other' })).status).toBe(500);
  });
});
