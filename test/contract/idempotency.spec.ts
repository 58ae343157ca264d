import { IdempotencyInFlightError, IdempotencyMismatchError, IdempotencyService } from 'nestjs-atomic-redis';
import { AWKWARD_KEYS } from '../support/awkward-keys.js';
import { targetOfEnvironment, useTarget } from '../support/target.js';
import { gate } from '../idempotency/support.js';

describe('idempotency', () => {
  const target = useTarget(targetOfEnvironment(), { asUser: true, replicasPerMaster: 1 });
  let idempotency: IdempotencyService;

  beforeAll(() => {
    idempotency = target.app.get(IdempotencyService);
  });

  it('[SRV-1] runs once for each key, and replays the first result', async () => {
    let runs = 0;
    const call = (key: string): Promise<number> => idempotency.run(key, () => Promise.resolve(++runs));
    const first = await call('order');
    expect(await call('order')).toBe(first);
    expect(await call('another')).not.toBe(first);
    expect(runs).toBe(2);
  });

  it('[SRV-1] refuses a duplicate of a running call, and another payload', async () => {
    const [begun, opened] = [gate(), gate()];
    const running = idempotency.run('busy', () => (begun.resolve(), opened.promise), { fingerprint: 'a' });
    await begun.promise;
    await expect(idempotency.run('busy', () => 1, { fingerprint: 'a' })).rejects.toThrow(
      IdempotencyInFlightError,
    );
    await expect(idempotency.run('busy', () => 1, { fingerprint: 'b' })).rejects.toThrow(
      IdempotencyMismatchError,
    );
    opened.resolve();
    await running;
  });

  it('[SRV-1] wakes duplicates that wait for it', async () => {
    const [begun, opened] = [gate(), gate<string>()];
    const running = idempotency.run('slow', () => (begun.resolve(), opened.promise));
    await begun.promise;
    const waiting = Array.from({ length: 5 }, () =>
      idempotency.run('slow', () => Promise.resolve('again'), { onDuplicate: 'wait' }),
    );
    opened.resolve('done');
    expect(await Promise.all([running, ...waiting])).toEqual(Array.from({ length: 6 }, () => 'done'));
  });

  it('[SRV-2] (I13) takes keys of every kind, spreads them over the servers, and shows none of them', async () => {
    const keys = [...AWKWARD_KEYS, ...Array.from({ length: 60 }, (_, i) => `{same}:${i}`)];
    for (const key of keys) {
      await expect(idempotency.run(key, () => Promise.resolve(1))).resolves.toBe(1);
      await expect(idempotency.run(key, () => Promise.resolve(2))).resolves.toBe(1);
    }
    const stored = await Promise.all((await target.masters()).map((node) => node.keys('*')));
    expect(stored.every((names) => names.length > 0)).toBe(true);
    expect(stored.flat()).toHaveLength(new Set(keys).size);
    for (const name of stored.flat()) expect(name).toMatch(/^atomic:[\w:-]+$/);
  });

  it('[SRV-1] commits with a transaction, in the slot of its keys', async () => {
    const { transactions } = target.redis;
    const deposit = (): Promise<number> =>
      idempotency.run(
        'deposit',
        () =>
          transactions.run(
            ['app:{acct}:balance'],
            async (tx) => {
              const balance = Number(await tx.read.get('app:{acct}:balance')) + 5;
              tx.write.set('app:{acct}:balance', balance);
              return balance;
            },
            { completesRun: (balance) => balance },
          ),
        { colocateWith: 'app:{acct}:balance' },
      );
    expect(await deposit()).toBe(5);
    expect(await deposit()).toBe(5);
    expect(await target.client.get('app:{acct}:balance')).toBe('5');
  });
});
