import { useExample } from './examples.js';

describe('docs/steps.md', () => {
  const example = useExample('docs/steps.md');

  it('[ID-50] resumes a payment whose mail failed, and charges once', async () => {
    const pay = () => example.send('POST', '/orders/7/payment', {}, { 'idempotency-key': 'payment-7' });
    expect((await pay()).status).toBe(500);
    const paid = { status: 201, body: { id: '7', charge: 'charge 1 of 10', attempt: 2 } };
    expect(await pay()).toMatchObject(paid);
    expect(await pay()).toMatchObject(paid);
  });
});
