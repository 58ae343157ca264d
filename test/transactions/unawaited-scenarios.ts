import type { Redis } from 'ioredis';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { QueueJob, ReliableQueueService, Transaction, TransactionService } from '../../lib/index.js';
import type { FaultProxy, RedisCommand } from '../../lib/testing/index.js';

export interface Scene {
  readonly transactions: TransactionService;
  readonly queues: ReliableQueueService;
  readonly proxy: FaultProxy;
  readonly client: Redis;
}

const on = (name: string) => ({ match: (command: RedisCommand) => command.name === name });

class Insufficient extends Error {}

/** Asks for several things at once, and gives up at the first that does not please it. */
const withdraw = async (tx: Transaction): Promise<void> => {
  const balance = tx.read.get('k').then(Number);
  const limit = tx.read.hget('limits', 'k');
  const watched = tx.watch('limits');
  void tx.read.strlen('k').then(Number);
  if ((await balance) < 1_000) throw new Insufficient();
  await watched;
  tx.write.set('k', (await balance) - Number(await limit));
};

/** Uses that a body may make of its promises. None of them may end the process. */
export const scenarios: Record<string, (scene: Scene) => Promise<unknown>> = {
  'a transaction that nobody waits for, whose failure Node tells': async ({ transactions, queues }) => {
    const told = async (begin: () => Promise<unknown>): Promise<void> => {
      const unhandled = once(process, 'unhandledRejection');
      void begin();
      await unhandled;
    };
    const fail = (): never => {
      throw new Insufficient();
    };
    await told(() => transactions.run(['k'], () => 1, { completesStep: () => 1 }));
    await told(() => transactions.run(['k'], fail));
    const queue = queues.get<number>('orders');
    await queue.push(1);
    const job = (await queue.take())!;
    await told(() => transactions.run(['k'], fail, { completesJob: job }));
    let ended: QueueJob<number> | undefined;
    const consumer = queue.consume((one) => void (ended = one));
    await queue.push(2);
    while (!ended) await sleep(1);
    await consumer.stop();
    await told(() => transactions.run(['k'], fail, { completesJob: ended! }));
  },
  'a body that throws before it has awaited all of its reads': ({ transactions }) =>
    transactions.run(['k'], withdraw),
  'members of a group that ask what only Redis can tell': ({ transactions }) => {
    // Others follow where the first one asks for no more than they may know.
    const increment = (tx: Transaction): Promise<void> =>
      tx.read.get('k').then((value) => void tx.write.set('k', Number(value) + 1));
    const bodies = Array.from({ length: 20 }, (_, i) => (i % 2 ? withdraw : increment));
    return Promise.allSettled(bodies.map((body) => transactions.run(['k'], body)));
  },
  'reads that are not awaited on a connection that is cut': async ({ transactions, proxy }) => {
    for (let i = 0; i < 5; i++) {
      proxy.cutBeforeServer(on('GET'));
      await transactions.run(['k'], async (tx) => {
        void tx.read.hget('limits', 'k');
        const [first, second] = [tx.read.get('k'), tx.read.hgetall('limits').then(Object.keys)];
        void tx.watch('another');
        tx.write.set('out', Number(await first));
        await second;
      });
    }
  },
  'attempts that are repeated while reads of the one before are under way': async ({
    transactions,
    client,
  }) =>
    transactions.run(['k'], async (tx) => {
      await tx.read.get('k');
      for (let i = 0; i < 10; i++) void tx.read.get('k');
      if (tx.attempt < 5) await client.incr('k');
      tx.write.set('out', 1);
    }),
  'reads and writes after the attempt has ended': async ({ transactions }) => {
    await transactions.run(['k'], (tx) => {
      void sleep(20)
        .then(() => tx.watch('late'))
        .catch(() => undefined);
    });
    await sleep(50);
  },
  'joined transactions that fail and are not awaited': ({ transactions }) =>
    transactions.run(['k'], async (tx) => {
      void transactions.run(['a'], async (joined) => {
        await joined.read.get('a');
        throw new Insufficient();
      });
      void transactions.run(['b'], () => undefined, { timeoutMs: 1 });
      void transactions.run(['c'], () => Promise.reject(new Insufficient()), { propagation: 'new' });
      await tx.read.get('k');
      tx.write.set('out', 1);
    }),
  'reads of a wrong type that are not awaited': ({ transactions, client }) =>
    transactions.run(['k'], async (tx) => {
      await client.rpush('list', 1);
      void tx.read.get('list');
      await tx.read.get('k');
      tx.write.set('out', 1);
    }),
  'a deadline that passes while reads are under way': ({ transactions, proxy }) => {
    proxy.blackHole(on('GET'));
    return transactions.run(
      ['k'],
      async (tx) => {
        void tx.read.hget('limits', 'k');
        await tx.read.get('k');
      },
      { timeoutMs: 400 },
    );
  },
  'a signal that aborts while reads are under way': ({ transactions, proxy }) => {
    proxy.blackHole(on('GET'));
    return transactions.run(['k'], (tx) => Promise.all([tx.read.get('k'), tx.read.hget('limits', 'k')]), {
      signal: AbortSignal.timeout(100),
    });
  },
  'a WATCH that is refused': async ({ transactions, client }) => {
    await client.acl('SETUSER', 'default', '-watch');
    try {
      await transactions.run(['k'], (tx) => void tx.read.get('k'));
    } finally {
      await client.acl('SETUSER', 'default', '+watch');
    }
  },
  'a server that closes every connection again and again': async ({ transactions, client }) => {
    const going = Promise.allSettled(
      Array.from({ length: 50 }, (_, i) =>
        transactions.run([`k${i % 3}`], async (tx) => {
          void tx.read.hget('limits', 'k');
          const [a, b] = [tx.read.get(`k${i % 3}`), tx.read.strlen('k')];
          await sleep(i % 7);
          tx.write.set(`k${i % 3}`, Number(await a) + (await b));
        }),
      ),
    );
    for (let i = 0; i < 10; i++) {
      await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      await sleep(10);
    }
    await going;
  },
};
