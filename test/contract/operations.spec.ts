import {
  CounterLimitError,
  CrossSlotError,
  defineScript,
  InsufficientFundsError,
  LeaseLostError,
} from 'nestjs-atomic-redis';
import { AWKWARD_KEYS } from '../support/awkward-keys.js';
import { targetOfEnvironment, useTarget } from '../support/target.js';

const MANY = 10_000;

const append = defineScript({
  name: 'contract.append',
  keys: ['list', '...copies'],
  args: ['...items'],
  lua: `
local length
for i = 1, #ARGV do
  length = redis.call('RPUSH', KEYS[1], ARGV[i])
end
return length
`,
  reply: (raw) => Number(raw),
});

describe('the operations', () => {
  const target = useTarget(targetOfEnvironment(), { asUser: true, replicasPerMaster: 1 });

  it('[SRV-1] counters: many adds stay within a bound, several are all or nothing, and undo reverts them', async () => {
    const { counters } = target.redis;
    await counters.add('app:stock', 50);
    const adds = await Promise.all(
      Array.from({ length: 80 }, () => counters.add('app:stock', -1, { min: 0, onLimit: 'skip' })),
    );
    expect(adds.filter(({ limited }) => !limited)).toHaveLength(50);
    expect(await counters.get('app:stock')).toBe(0);
    const cart = ['app:{c}:a', 'app:{c}:b'].map((key) => ({ key, amount: 2, max: 3 }));
    expect((await counters.addAll(cart)).applied).toBe(true);
    expect((await counters.addAll(cart)).applied).toBe(false);
    const failed = counters.run('app:{c}:a', 1, () => Promise.reject(new Error('mine')));
    await expect(failed).rejects.toThrow('mine');
    expect(await counters.get('app:{c}:a')).toBe(2);
    await counters.reset('app:{c}:a');
    expect(await counters.get('app:{c}:a')).toBeNull();
  });

  it('[SRV-1] reservations are held, confirmed, released, and expire by themselves', async () => {
    const { counters, reservations } = target.redis;
    await counters.add('app:seats', 3);
    const held = await reservations.hold('app:seats', 1, { ttlMs: 600_000 });
    const released = await reservations.hold('app:seats', 1, { ttlMs: 600_000 });
    await reservations.hold('app:seats', 1, { ttlMs: 1 });
    expect(await reservations.confirm(held.id)).toBe(true);
    expect(await reservations.release(released.id)).toBe(true);
    expect(await reservations.release(released.id)).toBe(false);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(await reservations.available('app:seats')).toBe(2);
    await expect(reservations.hold('app:seats', 3, { ttlMs: 1_000 })).rejects.toThrow(CounterLimitError);
  });

  it('[SRV-1] permits have one holder or several, pass on in order, and are enforced', async () => {
    const { permits, transactions, values } = target.redis;
    const first = await permits.acquire('app:{p}:lock');
    const served: number[] = [];
    const waiting = [1, 2, 3].map((n) =>
      permits.withPermit('app:{p}:lock', () => served.push(n), { waitMs: 60_000 }),
    );
    await transactions.run(['app:{p}:log'], (tx) => void tx.write.set('app:{p}:log', 1), { permit: first });
    expect(await first.release()).toBe(true);
    await Promise.all(waiting);
    expect(new Set(served)).toEqual(new Set([1, 2, 3]));
    const next = (await permits.tryAcquire('app:{p}:lock'))!;
    expect(next.fence).toBeGreaterThan(first.fence);
    await expect(values.getAndSet('app:{p}:log', '2', { permit: first })).rejects.toThrow(LeaseLostError);
    expect(await values.getAndSet('app:{p}:log', '2', { permit: next })).toBe('1');
    expect(await next.release()).toBe(true);
    const places = await Promise.all([1, 2].map(() => permits.acquire('app:{p}:places', { limit: 2 })));
    expect(await permits.tryAcquire('app:{p}:places', { limit: 2 })).toBeNull();
    const third = permits.acquire('app:{p}:places', { limit: 2, waitMs: 60_000 });
    await places[1]!.release();
    expect((await third).slot).toBe(places[1]!.slot);
  });

  it('[SRV-1] values are compared and set, taken, deleted and expired', async () => {
    const { values } = target.redis;
    const swaps = await Promise.all(
      Array.from({ length: 20 }, (_, i) => values.compareAndSet('app:v', null, String(i))),
    );
    expect(swaps.filter(({ swapped }) => swapped)).toHaveLength(1);
    const { current } = swaps[0]!;
    expect(await values.getAndSet('app:v', 'next')).toBe(current);
    expect(await values.getAndExpire('app:v', { ttlMs: 60_000 })).toBe('next');
    expect(await target.client.pttl('app:v')).toBeGreaterThan(50_000);
    expect(await values.getAndDelete('app:v')).toBe('next');
    expect(await values.compareAndSetField('app:h', 'f', null, '1')).toEqual({ swapped: true, current: '1' });
    expect((await values.compareAndDeleteField('app:h', 'f', '1')).deleted).toBe(true);
    await values.getAndSet('app:v', 'last');
    expect((await values.compareAndDelete('app:v', 'last')).deleted).toBe(true);
    expect(await target.client.exists('app:v', 'app:v')).toBe(0);
  });

  it('[SRV-1] audited hashes change field and log in one step, with a stream and with a list', async () => {
    const { auditedHashes } = target.redis;
    for (const logType of ['stream', 'list'] as const) {
      const options = { log: `app:{p}:${logType}`, logType, maxEntries: 2 };
      for (const price of ['1', '2', '3']) await auditedHashes.set('app:{p}', logType, price, options);
      const { entries } = await auditedHashes.history(options.log);
      expect(entries.map((entry) => [entry.old, entry.new])).toEqual([
        ['2', '3'],
        ['1', '2'],
      ]);
    }
  });

  it('[SRV-1] transfers never overdraw, none is lost, and those across slots are refused', async () => {
    const { transfers } = target.redis;
    await target.client.set('app:{t}:a', '50');
    const made = await Promise.allSettled(
      Array.from({ length: 80 }, () =>
        transfers.transfer({ from: 'app:{t}:a', to: 'app:{t}:b', amount: 1, min: 0 }),
      ),
    );
    expect(made.filter(({ status }) => status === 'fulfilled')).toHaveLength(50);
    for (const one of made)
      if (one.status === 'rejected') expect(one.reason).toBeInstanceOf(InsufficientFundsError);
    expect(await target.client.mget('app:{t}:a', 'app:{t}:b')).toEqual(['0', '50']);
    if (!target.isCluster) return;
    const across = transfers.transfer({ from: 'app:{t}:b', to: 'app:{u}:b', amount: 1 });
    await expect(across).rejects.toThrow(CrossSlotError);
    expect(await target.client.get('app:{t}:b')).toBe('50');
  });

  it('[SRV-1] transfers across slots complete, never overdraw, and leave nothing pending', async () => {
    const { transfers } = target.redis;
    const accounts = Array.from({ length: 12 }, (_, i) => `app:{account-${i}}`);
    await Promise.all(accounts.map((key) => target.client.set(key, '10')));
    const made = await Promise.allSettled(
      Array.from({ length: 90 }, (_, i) =>
        transfers.acrossSlots({
          from: accounts[i % 12]!,
          to: accounts[(i * 5 + 1) % 12]!,
          amount: 1 + (i % 4),
          reference: `payment ${i}`,
        }),
      ),
    );
    for (const one of made)
      if (one.status === 'rejected') expect(one.reason).toBeInstanceOf(InsufficientFundsError);
    const balances = await Promise.all(accounts.map(async (key) => Number(await target.client.get(key))));
    expect(Math.min(...balances)).toBeGreaterThanOrEqual(0);
    expect(balances.reduce((sum, balance) => sum + balance, 0)).toBe(120);
    expect((await transfers.pending()).transfers).toEqual([]);
  });

  it('[SRV-1] transfers across slots: recovery returns an amount that could not be paid in', async () => {
    const { transfers } = target.redis;
    await target.client.mset('app:{x}:from', '5');
    await target.client.rpush('app:{y}:to', 'no balance');
    const refused = transfers.acrossSlots({ from: 'app:{x}:from', to: 'app:{y}:to', amount: 5 });
    await expect(refused).rejects.toMatchObject({ outcome: 'not-applied' });
    await transfers.recover({ minAgeMs: 0 });
    expect(await target.client.get('app:{x}:from')).toBe('5');
    expect((await transfers.pending()).transfers).toEqual([]);
  });

  it('[SRV-1] a script of the application runs, even after the servers have forgotten it', async () => {
    const { scripts } = target.redis;
    const call = (): Promise<number> =>
      scripts.run(append, { keys: { list: 'app:list', copies: [] }, args: { items: ['a'] } });
    expect(await call()).toBe(1);
    await Promise.all((await target.masters()).map((node) => node.script('FLUSH')));
    expect(await call()).toBe(2);
  });

  it('[SRV-3] (T27) one call takes ten thousand items', async () => {
    const { counters, scripts, transfers } = target.redis;
    const items = Array.from({ length: MANY }, (_, i) => String(i));
    const keys = { list: 'app:{many}', copies: items.map((i) => `app:{many}:${i}`) };
    expect(await scripts.run(append, { keys, args: { items } })).toBe(MANY);
    const adds = items.slice(0, 512).map((i) => ({ key: `app:{many}:n:${i}`, amount: 1 }));
    expect((await counters.addAll(adds)).applied).toBe(true);
    await target.client.set('app:{many}:from', MANY);
    const legs = items.map((i) => ({
      from: 'app:{many}:from',
      to: `app:{many}:to:${i}`,
      amount: 1,
      min: 0,
    }));
    expect((await transfers.transferAll(legs)).at(-1)).toEqual({ from: 0, to: 1 });
  });

  it('[SRV-2] keys of every kind and their companion keys share a slot', async () => {
    const { counters, reservations, transactions, transfers, values } = target.redis;
    for (const awkward of AWKWARD_KEYS) {
      const key = `app:${awkward}`;
      await transactions.run([key], (tx) => void tx.write.set(key, 5));
      expect((await counters.add(key, 1)).value).toBe(6);
      const { id } = await reservations.hold(key, 1, { ttlMs: 60_000 });
      await reservations.release(id);
      expect(await transfers.transfer({ from: key, to: key, amount: 1 }).catch(() => 'same')).toBeDefined();
      expect(await values.getAndDelete(key)).toBe('6');
    }
  });
});
