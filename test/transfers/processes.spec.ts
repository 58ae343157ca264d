import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { useRedis } from '../support/redis.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';
import type { TransferJob, TransferOutcome } from './processes.worker.js';

const ACCOUNTS = Array.from({ length: 5 }, (_, i) => `account:{bank}:${i}`);
const CALLS = 150;
const isScript = { match: ({ name }: { name: string }): boolean => name === 'EVALSHA' || name === 'EVAL' };

describe('transfers of several processes', () => {
  const redis = useRedis();

  it('[TR-11] conserve money, and each matches its caller’s result, under kill -9 and lost, late and cut replies', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const faults: ((on: FaultProxy) => unknown)[] = [
      (on) => on.loseReplies(isScript),
      (on) => on.cutBeforeServer(isScript),
      (on) => on.deliverLate(50, isScript),
      (on) => on.deliverPartOfReply(3, isScript),
      (on) => on.disconnectAll(),
    ];
    const outcomes: TransferOutcome[] = [];
    for (const account of ACCOUNTS) await redis.client.set(account, 100);

    /** Starts a process and takes what it reports; kills it after `killAfter` reports. */
    const run = async (name: string, killAfter = Infinity): Promise<void> => {
      const data: TransferJob = {
        url: proxy.url,
        accounts: ACCOUNTS,
        log: 'log:{bank}',
        calls: CALLS,
        callers: 4,
        name,
      };
      const process: WorkerProcess = startWorker({
        script: require.resolve('./processes.worker.ts'),
        data,
        timeoutMs: 60_000,
      });
      try {
        for (let n = 1; n <= Math.min(CALLS, killAfter); n++) {
          outcomes.push(await process.next<TransferOutcome>());
          if (outcomes.length % 10 === 0) faults[(outcomes.length / 10) % faults.length]!(proxy);
        }
        if (killAfter === Infinity) await process.result;
      } finally {
        await process.kill();
      }
    };
    try {
      await Promise.all([
        run('a'),
        run('b'),
        run('c', 40).then(() => run('c2')),
        run('d', 70).then(() => run('d2', 30)),
      ]);
    } finally {
      await proxy.stop();
    }

    const balances = new Map(ACCOUNTS.map((account) => [account, 100]));
    const logged = new Map<string, number>();
    for (const [, fields] of await redis.client.xrange('log:{bank}', '-', '+')) {
      const entry = Object.fromEntries(
        Array.from({ length: fields.length / 2 }, (_, i) => [fields[2 * i], fields[2 * i + 1]!]),
      ) as Record<'reference' | 'from' | 'to' | 'amount' | 'fromBalance' | 'toBalance', string>;
      balances.set(entry.from, balances.get(entry.from)! - Number(entry.amount));
      balances.set(entry.to, balances.get(entry.to)! + Number(entry.amount));
      expect([entry.fromBalance, entry.toBalance]).toEqual([
        String(balances.get(entry.from)),
        String(balances.get(entry.to)),
      ]);
      expect(balances.get(entry.from)).toBeGreaterThanOrEqual(0);
      logged.set(entry.reference, (logged.get(entry.reference) ?? 0) + 1);
    }
    expect(await redis.client.mget(ACCOUNTS)).toEqual(
      ACCOUNTS.map((account) => String(balances.get(account))),
    );
    expect([...balances.values()].reduce((sum, balance) => sum + balance, 0)).toBe(500);

    // One entry for each leg, whether its caller lived to be told or not.
    expect([...logged].filter(([reference, entries]) => !reference.endsWith(`x${entries}`))).toEqual([]);
    const became = (what: string) =>
      outcomes.filter((outcome) => outcome.became === what).map(({ reference }) => reference);
    const moved = became('moved');
    expect(moved.filter((reference) => !logged.has(reference))).toEqual([]);
    expect(became('INSUFFICIENT_FUNDS not-applied').filter((reference) => logged.has(reference))).toEqual([]);
    expect(moved.length).toBeGreaterThan(100);
    // Redis was never away for long: nothing is left unknown.
    expect(new Set(outcomes.map((outcome) => outcome.became))).toEqual(
      new Set(['moved', 'INSUFFICIENT_FUNDS not-applied']),
    );
  }, 120_000);
});
