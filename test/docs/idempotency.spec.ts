import { randomBytes } from 'node:crypto';
import type { ResultEncryption } from 'nestjs-atomic-redis';
import { examplesOf, extract, useExample } from './examples.js';

describe('docs/idempotency.md', () => {
  const example = useExample('docs/idempotency.md');

  it('runs routes and providers once for each key', async () => {
    const order = (key: string, sku: string) =>
      example.send('POST', '/orders', { sku }, { 'idempotency-key': key });
    expect((await order('a', 'tea')).body).toEqual({ id: 1, sku: 'tea' });
    const again = await order('"a"', 'tea');
    expect(again).toMatchObject({ status: 201, body: { id: 1, sku: 'tea' } });
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expect((await order('a', 'coffee')).status).toBe(422);
    expect((await example.send('POST', '/orders', { sku: 'tea' })).status).toBe(400);

    const ship = () => example.send('POST', '/parcels', { orderId: 'o-1' });
    expect((await ship()).body).toEqual({ orderId: 'o-1', parcel: 1 });
    expect((await ship()).body).toEqual({ orderId: 'o-1', parcel: 1 });

    const print = () => example.send('POST', '/parcels/labels', { orderId: 'o-1' });
    const labels = await Promise.all([print(), print(), print()]);
    expect(labels.map(({ body }) => body)).toEqual(Array.from({ length: 3 }, () => ({ label: 'o-1' })));
  });

  it('[ID-14] shows an encryption that decrypts its own output, and only for its own record', () => {
    const source = examplesOf('docs/idempotency.md').find((block) => block.includes('aes256gcm'))!;
    const { files, remove } = extract('encryption', [source]);
    try {
      // oxlint-disable-next-line typescript/no-require-imports -- the file was made a moment ago
      const { aes256gcm } = require(files[0]!) as { aes256gcm: (key: Buffer) => ResultEncryption };
      const { encrypt, decrypt } = aes256gcm(randomBytes(32));
      const sealed = Buffer.from(encrypt(Buffer.from('a secret'), 'record'));
      expect(sealed.includes('a secret')).toBe(false);
      expect(Buffer.from(decrypt(sealed, 'record')).toString()).toBe('a secret');
      expect(() => decrypt(sealed, 'another record')).toThrow(/authenticate/);
    } finally {
      remove();
    }
  });
});
