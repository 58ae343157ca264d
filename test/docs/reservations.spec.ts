import { waitFor } from '../support/wait-for.js';
import { useExample } from './examples.js';

describe('the example of docs/reservations.md', () => {
  const { send } = useExample('docs/reservations.md');

  const hold = async (quantity: number, ttlMs: number): Promise<{ status: number; id: string }> => {
    const { status, body } = await send('POST', '/stock/tea/holds', { quantity, ttlMs });
    return { status, id: (body as { id: string }).id };
  };

  const available = async (): Promise<number> =>
    ((await send('GET', '/stock/tea')).body as { available: number }).available;

  it('holds, sells, gives back, and lets expire', async () => {
    await send('POST', '/stock/tea/deliveries', { quantity: 10 });
    const [paid, cancelled, forgotten] = [await hold(3, 60_000), await hold(2, 60_000), await hold(5, 300)];
    expect((await hold(11, 60_000)).status).toBe(409);
    expect(await send('PUT', `/holds/${paid.id}`)).toMatchObject({ status: 200 });
    expect(await send('DELETE', `/holds/${cancelled.id}`)).toMatchObject({ body: { released: true } });
    expect(await send('DELETE', `/holds/${cancelled.id}`)).toMatchObject({ body: { released: false } });
    await waitFor('the expiry', async () => (await available()) === 7);
    expect(await send('PUT', `/holds/${forgotten.id}`)).toMatchObject({ status: 409 });
    expect(await available()).toBe(7);
  });
});
