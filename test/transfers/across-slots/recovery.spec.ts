import { TransferService, type PendingTransfer } from 'nestjs-atomic-redis';
import { SERVERS, useTarget } from '../../support/target.js';
import { waitFor } from '../../support/wait-for.js';
import { hookSteps, left, never } from './support.js';

describe.each(SERVERS)('recovery of transfers across slots on %s', (kind) => {
  const env = useTarget(kind);
  const transfers = () => env.app.get(TransferService);

  /** Begins transfers of 1 from each of the sources to `to`, and leaves them there. */
  const abandon = async (sources: readonly string[], to: string): Promise<void> => {
    const app = await env.another();
    let begun = 0;
    hookSteps(app, async (step, run) => {
      if (step !== 'begin') return await never;
      const result = await run();
      begun++;
      return result;
    });
    for (const from of sources)
      void app.get(TransferService).acrossSlots({ from, to, amount: 1n, reference: `of ${from}` });
    await waitFor('all are begun', () => begun === sources.length);
  };

  const all = async (limit: number, from?: string): Promise<PendingTransfer[]> => {
    const found: PendingTransfer[] = [];
    let cursor: string | undefined;
    do {
      const page = await transfers().pending({ limit, ...(from && { from }), ...(cursor && { cursor }) });
      expect(page.transfers.length).toBeLessThanOrEqual(limit);
      found.push(...page.transfers);
      cursor = page.cursor;
    } while (cursor);
    return found;
  };

  it('[TR-19] lists each pending transfer once, page by page, of all slots or of one', async () => {
    const sources = ['{x}1', '{x}2', '{y}', '{z}'].flatMap((key) => Array<string>(7).fill(key));
    await env.client.set('{x}1', 100).then(() => env.client.set('{x}2', 100));
    await env.client.set('{y}', 100).then(() => env.client.set('{z}', 100));
    await abandon(sources, 'to');
    for (const limit of [5, 100]) {
      const found = await all(limit);
      expect(found.map(({ from }) => from).toSorted()).toEqual(sources.toSorted());
      expect(new Set(found.map(({ id }) => id)).size).toBe(sources.length);
      expect(found[0]).toMatchObject({
        to: 'to',
        amount: 1n,
        reference: `of ${found[0]!.from}`,
        state: 'open',
      });
    }
    for (const limit of [1, 3, 14, 15]) {
      const found = await all(limit, '{x}any');
      expect(found).toHaveLength(14);
      const times = found.map(({ begunAtMs }) => begunAtMs);
      expect(times).toEqual(times.toSorted((a, b) => a - b));
    }
    const [seconds] = await env.client.time();
    const [{ begunAtMs }] = (await all(1, '{y}')) as [PendingTransfer];
    expect(Math.abs(begunAtMs - Number(seconds) * 1_000)).toBeLessThan(60_000);
  });

  it('[TR-19] leaves recent transfers to their own callers by default', async () => {
    await env.client.set('{x}', 10);
    await abandon(['{x}'], 'to');
    expect(await transfers().pending({ from: '{x}', minAgeMs: 60_000 })).toEqual({ transfers: [] });
    expect(await transfers().recover({ from: '{x}', minAgeMs: 60_000 })).toMatchObject({ credited: 0 });
    // With equal outcome it is found once it is old enough.
    await waitFor('it is old enough', async () => {
      const { credited } = await transfers().recover({ from: '{x}', minAgeMs: 200 });
      return credited === 1;
    });
    expect(await env.client.get('to')).toBe('1');
  });

  it('[TR-14] completes each transfer once, with several recoverers at the same time', async () => {
    const sources = Array.from({ length: 40 }, (_, i) => `{s${i % 4}}`);
    for (const from of new Set(sources)) await env.client.set(from, 10);
    await env.client.set('full', String(2n ** 63n - 6n));
    await abandon(sources.slice(0, 20), 'to');
    await abandon(sources.slice(20), 'full');
    const others = await Promise.all([env.another(), env.another()]);
    try {
      const recovering = [env.app, ...others].flatMap((app) =>
        [...new Set(sources)].map((from) => app.get(TransferService).recover({ from, minAgeMs: 0 })),
      );
      for (const { failed } of await Promise.all(recovering)) expect(failed).toBe(0);
    } finally {
      for (const app of others) await app.close();
    }
    expect(await env.client.get('to')).toBe('20');
    // Five found room, and fifteen were given back.
    expect(await env.client.get('full')).toBe(String(2n ** 63n - 1n));
    let rest = 0;
    for (const from of new Set(sources)) rest += Number(await env.client.get(from));
    expect(rest).toBe(40 - 20 - 5);
    const { decisions, others: keys } = await left(env);
    expect(keys).toEqual([]);
    expect(decisions).toHaveLength(40);
    expect(decisions.filter(({ ttlMs }) => ttlMs < 0)).toEqual([]);
  });

  it('[TR-14] completes the others when one transfer is stuck', async () => {
    await env.client.set('{x}', 10);
    await env.client.set('garbage', 'x');
    await abandon(['{x}'], 'garbage');
    await env.client.set('{x}', 'x');
    await env.client.set('{x}other', 10);
    await abandon(['{x}other'], 'to');
    const recovery = await transfers().recover({ from: '{x}', minAgeMs: 0 });
    expect(recovery).toMatchObject({ credited: 1, refunded: 0, failed: 1 });
    expect(recovery.errors).toMatchObject([
      { code: 'TRANSFER_PENDING', transfer: { from: '{x}', to: 'garbage', amount: 1n, reference: 'of {x}' } },
    ]);
    expect(await env.client.get('to')).toBe('1');
  });

  it('[TR-19] supports keys and references of any text', async () => {
    const [from, to] = ['a,}"\n😀{', '{"to"},\u0000 \'x\''];
    await env.client.set(from, 3);
    await abandon([from], to);
    expect((await transfers().pending({ from: from })).transfers).toMatchObject([
      { from, to, reference: `of ${from}`, amount: 1n },
    ]);
    expect(await transfers().recover({ from: from, minAgeMs: 0 })).toMatchObject({ credited: 1 });
    expect([await env.client.get(from), await env.client.get(to)]).toEqual(['2', '1']);
  });
});
