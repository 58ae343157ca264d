import { waitFor } from '../support/wait-for.js';
import { useExample } from './examples.js';

describe('the example of docs/queues.md', () => {
  const { send } = useExample('docs/queues.md');

  it('sends every mail once, and gives up a mail that cannot be sent', async () => {
    const mails = [...Array.from({ length: 20 }, (_, i) => `${i}@example.org`), 'nobody'];
    const pushed = await Promise.all(
      mails.map((to) => send('POST', '/emails', { to, subject: 'Your order' })),
    );
    expect(new Set(pushed.map(({ body }) => (body as { id: string }).id)).size).toBe(21);
    const state = await waitFor('all are settled', async () => {
      const { body } = await send('GET', '/emails');
      const { pending, processing } = body as { pending: number; processing: number };
      return pending + processing === 0 && body;
    });
    expect(state).toEqual({
      sent: 20,
      pending: 0,
      delayed: 0,
      processing: 0,
      dead: 1,
      reasons: ['Error: no address: nobody'],
    });
  });
});
