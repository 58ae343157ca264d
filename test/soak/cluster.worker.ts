import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  AtomicRedisError,
  CounterService,
  IdempotencyService,
  InsufficientFundsError,
  NotReplicatedError,
  TransactionService,
  TransferService,
  type DurabilityOptions,
} from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { recordOperation } from '../histories/recorder.js';
import { worker } from '../support/worker.js';
import { counters, effectLists, pairs, wallets, type ClusterReport, type PairEntry } from './cluster-bank.js';
import { integerBetween, seededRandom } from './random.js';

export interface ClusterJob {
  readonly nodes: { host: string; port: number }[];
  /** Number of callers that repeat a request, and of callers with other calls. */
  readonly callers: { readonly runs: number; readonly others: number };
  readonly durability?: DurabilityOptions;
  readonly seed: number;
}

/** A slot is back well before: no outcome has this as an excuse. */
const TIMEOUT_MS = 30_000;
const LEASE_MS = 3_000;

/**
 * Each caller makes one call after the other until a message comes. Returns what the calls
 * reported.
 */
worker<ClusterJob>(async ({ data, index, next, send }) => {
  const { nodes, durability, seed } = data;
  const app = await startApp({ connection: { nodes }, timeoutMs: TIMEOUT_MS });
  const transactions = app.get(TransactionService);
  const transfers = app.get(TransferService);
  const counting = app.get(CounterService);
  const idempotency = app.get(IdempotencyService);

  const movePair = async (id: string, random: () => number): Promise<Partial<ClusterReport>> => {
    const at = integerBetween(random, 0, pairs.length - 1);
    const {
      accounts: [first, second],
      audit,
    } = pairs[at]!;
    const moved = integerBetween(random, -20, 20);
    const outcome = await outcomeOf(
      recordAppend(audit, id, () =>
        transactions.run(
          [first, second],
          async (tx) => {
            const [a, b] = (await tx.read.mget(first, second)).map(Number) as [number, number];
            // Set to what follows from what was read: one that was read too early would take
            // another's transfer back.
            tx.write.set(first, a - moved);
            tx.write.set(second, b + moved);
            tx.write.rpush(audit, JSON.stringify({ id, moved } satisfies PairEntry));
          },
          { durability },
        ),
      ),
    );
    return { on: 'pair', index: at, ...outcome };
  };

  const moveBetweenWallets = async (random: () => number): Promise<Partial<ClusterReport>> => {
    const from = integerBetween(random, 0, wallets.length - 1);
    const to = (from + integerBetween(random, 1, wallets.length - 1)) % wallets.length;
    const transfer = { from, to, amount: integerBetween(random, 1, 20) };
    const moved = { from: wallets[from]!, to: wallets[to]!, amount: transfer.amount };
    const outcome = await outcomeOf(
      recordOperation({ name: 'transfer across slots', args: moved }, () =>
        transfers.acrossSlots(moved, { durability }),
      ),
    );
    return { on: 'wallets', index: from, transfer, ...outcome };
  };

  const count = async (random: () => number): Promise<Partial<ClusterReport>> => {
    const at = integerBetween(random, 0, counters.length - 1);
    const key = counters[at]!;
    const adding = recordOperation({ name: 'add', model: 'counter', key, args: { by: 1 } }, () =>
      counting.add(key, 1, { durability }),
    );
    return { on: 'counter', index: at, ...(await outcomeOf(adding)) };
  };

  /** Asks until there is an answer, as long as an error says that it may. */
  const request = async (key: string, random: () => number): Promise<ClusterReport> => {
    const at = integerBetween(seededRandom(Number(key.replaceAll(':', ''))), 0, effectLists.length - 1);
    const list = effectLists[at]!;
    const work = async (): Promise<string> => {
      const answer = `${key} ${randomUUID()}`;
      await recordAppend(list, answer, () =>
        transactions.run([list], async (tx) => void tx.write.rpush(list, JSON.stringify({ key, answer })), {
          completesRun: () => answer,
          durability,
        }),
      );
      return answer;
    };
    const options = {
      leaseMs: LEASE_MS,
      onDuplicate: 'wait',
      colocateWith: list,
      timeoutMs: 5_000,
      durability,
    } as const;
    for (const deadline = performance.now() + 2 * TIMEOUT_MS; ; await sleep(integerBetween(random, 5, 100))) {
      const about = { on: 'run', index: at, key } as const;
      try {
        const answer = await idempotency.run(key, work, options);
        return { id: answer, ...about, outcome: 'applied', atMs: Date.now() };
      } catch (thrown) {
        const error = thrown as Error;
        const mayRepeat =
          error instanceof AtomicRedisError && error.retryable && performance.now() < deadline;
        if (!mayRepeat) return { id: key, ...about, ...described(error), atMs: Date.now() };
      }
    }
  };

  send({ ready: true });
  let going = true;
  void next().then(() => (going = false));

  const reports: ClusterReport[] = [];
  const randomOf = (caller: number) => seededRandom(seed * 1_000_003 + index * 1_009 + caller);
  const requesting = Array.from({ length: data.callers.runs }, async (_, caller) => {
    const random = randomOf(caller);
    // Every process has a caller of this number, and they send the same keys.
    for (let n = 0; going; n++) reports.push(await request(`${caller}:${n}`, random));
  });
  const others = Array.from({ length: data.callers.others }, async (_, caller) => {
    const random = randomOf(1_000 + caller);
    for (let n = 0; going; n++) {
      const id = `${index}:${caller}:${n}`;
      const dice = random();
      const told =
        dice < 0.4
          ? await movePair(id, random)
          : dice < 0.7
            ? await moveBetweenWallets(random)
            : await count(random);
      reports.push({ id, atMs: Date.now(), ...told } as ClusterReport);
    }
  });
  await Promise.all([...requesting, ...others]);
  await app.close();
  return reports;
});

type Told = Pick<ClusterReport, 'outcome' | 'error'>;

async function recordAppend(list: string, value: string, call: () => Promise<unknown>): Promise<unknown> {
  const args = [['append', list, value]];
  return await recordOperation({ name: 'transaction', model: 'list-append', args }, call, {
    resultOf: () => args,
  });
}

async function outcomeOf(call: Promise<unknown>): Promise<Told> {
  try {
    await call;
    return { outcome: 'applied' };
  } catch (error) {
    return described(error as Error);
  }
}

function described(error: Error): Told {
  if (error instanceof NotReplicatedError) return { outcome: 'not-durable', error: error.name };
  if (error instanceof InsufficientFundsError) return { outcome: 'not-applied', error: error.name };
  if (error instanceof AtomicRedisError)
    return { outcome: error.outcome, error: `${error.name}: ${error.message}` };
  return { outcome: 'unexpected', error: String(error.stack) };
}
