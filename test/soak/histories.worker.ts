import { Test } from '@nestjs/testing';
import {
  AtomicRedisModule,
  CounterService,
  TransactionService,
  ValueService,
  type DurabilityOptions,
} from '../../lib/index.js';
import { nowUs } from '../histories/history.js';
import type { Step } from '../histories/list-append.js';
import type { Addition } from '../histories/models.js';
import { recordOperation } from '../histories/recorder.js';
import { worker } from '../support/worker.js';
import { integerBetween, seededRandom, shuffled } from './random.js';

export interface HistoriesJob {
  /** URLs of the fault proxy of each worker, or the nodes of a Cluster. */
  readonly connection: readonly string[] | { readonly nodes: readonly { host: string; port: number }[] };
  readonly callers: number;
  /** Keys with one hash tag each: transactions stay inside. */
  readonly groups: number;
  readonly durability?: DurabilityOptions;
  readonly seed: number;
  /** When the run began, on the clock of histories. */
  readonly beganUs: number;
}

/** Redis is back well before: few outcomes have an excuse to be unknown. */
const PATIENT_MS = 30_000;
/** About as long as a call takes while a fault strikes it. */
const HURRIED_MS = { least: 80, most: 600 };
/** Others after this, so that no list and no history of a key grows without end. */
const GENERATION_US = 1_500_000;
const LISTS = 4;
const OTHERS = 2;
/** No register ever holds it: a comparison with it only reads. */
const NEVER = 'never';

class OwnError extends Error {}

/** Each caller makes one call after the other until a message comes, and records them all. */
worker<HistoriesJob>(async ({ data, index, next, send }) => {
  const { connection, durability, seed } = data;
  const app = await Test.createTestingModule({
    imports: [
      AtomicRedisModule.forRoot({
        namespace: 'atomic:',
        connection: 'nodes' in connection ? { nodes: [...connection.nodes] } : connection[index]!,
      }),
    ],
  }).compile();
  app.useLogger(false);
  await app.init();
  const transactions = app.get(TransactionService);
  const counters = app.get(CounterService);
  const values = app.get(ValueService);

  const call = async (random: () => number, id: string): Promise<void> => {
    const chance = (probability: number): boolean => random() < probability;
    const generation = Math.floor((nowUs() - data.beganUs) / GENERATION_US);
    const tag = `{group:${integerBetween(random, 0, data.groups - 1)}}:${generation}`;
    const isHurried = chance(0.2);
    const timeoutMs = isHurried ? integerBetween(random, HURRIED_MS.least, HURRIED_MS.most) : PATIENT_MS;
    const options = { timeoutMs, durability };
    const dice = random();
    if (dice < 0.5) await transact(random, tag, id, options);
    else if (dice < 0.75)
      await count(random, `${tag}:counter:${integerBetween(random, 0, OTHERS - 1)}`, options);
    else await compare(random, `${tag}:register:${integerBetween(random, 0, OTHERS - 1)}`, id, options);
  };

  type Options = { timeoutMs: number; durability: DurabilityOptions | undefined };

  const transact = async (random: () => number, tag: string, id: string, options: Options): Promise<void> => {
    const names = shuffled(
      random,
      Array.from({ length: LISTS }, (_, list) => `${tag}:list:${list}`),
    );
    const keys = names.slice(0, integerBetween(random, 1, 3));
    const kinds = keys.map(() => random());
    // Reads come first: what is appended is queued until EXEC.
    const reads = keys.filter((_, i) => kinds[i]! < 0.7);
    const appends = keys.filter((_, i) => kinds[i]! >= 0.4);
    const args: Step[] = [
      ...reads.map((key): Step => ['read', key]),
      ...appends.map((key): Step => ['append', key, id]),
    ];
    const fails = random() < 0.02;
    await recordOperation(
      { name: 'transaction', model: 'list-append', args },
      () =>
        transactions.run(
          keys,
          async (tx) => {
            const lists = await Promise.all(reads.map((key) => tx.read.lrange(key, 0, -1)));
            for (const key of appends) tx.write.rpush(key, id);
            if (fails) throw new OwnError();
            return args.map((step, i): Step => (step[0] === 'read' ? ['read', step[1], lists[i]!] : step));
          },
          { ...options, validateReads: true },
        ),
      { isOwn: (error) => error instanceof OwnError },
    );
  };

  const count = async (random: () => number, key: string, options: Options): Promise<void> => {
    if (random() < 0.15 && !durability) {
      await recordOperation({ name: 'read', model: 'counter', key, args: {} }, () =>
        counters.get(key, { timeoutMs: options.timeoutMs }),
      );
      return;
    }
    const by = integerBetween(random, 1, 5) * (random() < 0.6 ? 1 : -1);
    const clamps = random() < 0.3;
    const args: Addition = { by, min: 0, max: 40, clamps };
    await recordOperation({ name: 'add', model: 'counter', key, args }, () =>
      counters.add(key, by, { min: 0, max: 40, onLimit: clamps ? 'clamp' : 'skip', ...options }),
    );
  };

  /**
   * The latest value of each register that this process saw: usually current, if no other process
   * was faster.
   */
  const seen = new Map<string, string | null>();

  const compare = async (random: () => number, key: string, id: string, options: Options): Promise<void> => {
    const dice = random();
    if (dice < 0.2) {
      await recordOperation({ name: 'swap', model: 'register', key, args: [id] }, () =>
        values.getAndSet(key, id, options),
      );
      seen.set(key, id);
      return;
    }
    const expected = dice < 0.4 ? NEVER : (seen.get(key) ?? null);
    // Without replicas that have it, what a refused call saw may be lost.
    const model = expected === NEVER && durability ? undefined : ('register' as const);
    const { current } = await recordOperation(
      { name: 'compareAndSet', model, key, args: [expected, id] },
      () => values.compareAndSet(key, expected, id, options),
    );
    seen.set(key, current);
  };

  send({ ready: true });
  let going = true;
  void next().then(() => (going = false));
  await Promise.all(
    Array.from({ length: data.callers }, async (_, caller) => {
      const random = seededRandom(seed * 1_000_003 + index * 1_009 + caller);
      // A process that was killed is followed by one of the same number: ids hold the pid.
      for (let n = 0; going; n++)
        await call(random, `${process.pid}.${caller}.${n}`).catch((error: Error) => {
          if (!('outcome' in error) && !(error instanceof OwnError)) throw error;
        });
    }),
  );
  await app.close();
});
