import { randomId } from '../../lib/runtime/random-id.js';

describe('randomId', () => {
  it('has 128 bits, and never repeats', () => {
    const ids = Array.from({ length: 10_000 }, () => randomId('hex'));
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{32}$/);
    expect(randomId('base64url')).toMatch(/^[\w-]{22}$/);
  });
});
