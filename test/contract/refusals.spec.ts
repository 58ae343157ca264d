import {
  defineScript,
  IdempotencyService,
  InvalidArgumentError,
  PartialCommitError,
  RedisReplyError,
  RedisUnavailableError,
  type Transaction,
} from 'nestjs-atomic-redis';
import type { ClusterNode, TestCluster } from '../support/cluster.js';
import { USER } from '../support/least-rights.js';
import { expectOutOfMemory } from '../support/refused-calls.js';
import { DOUBLE, targetOfEnvironment, useTarget } from '../support/target.js';
import { waitFor } from '../support/wait-for.js';

const kind = targetOfEnvironment();
// Others are not for us to fill up and to reconfigure.
const ofOurs = ['one server', 'a Cluster', DOUBLE].includes(kind) ? describe : describe.skip;
const ofClusters = kind === 'a Cluster' ? describe : describe.skip;

ofOurs('servers that refuse a call', () => {
  const target = useTarget(kind, { asUser: true, replicasPerMaster: 1 });

  it('[SRV-7] (I41) out of memory: nothing was done, and the method does not run', async () => {
    const { counters, idempotency, transactions, transfers } = target.redis;
    await counters.add('app:k', 1);
    await target.client.set('app:{t}:a', '5');
    await target.setMemoryFull(true);
    try {
      let ran = 0;
      const refused = await Promise.allSettled([
        counters.add('app:new', 1),
        transfers.transfer({ from: 'app:{t}:a', to: 'app:{t}:b', amount: 1 }),
        idempotency.run('oom', () => Promise.resolve(++ran)),
        transactions.run(['app:k'], (tx) => void tx.write.set('app:k', 9)),
      ]);
      expectOutOfMemory(refused);
      expect(ran).toBe(0);
    } finally {
      await target.setMemoryFull(false);
    }
    expect(await target.client.get('app:k')).toBe('1');
    expect(await target.client.get('app:{t}:a')).toBe('5');
    expect(await target.client.exists('app:new')).toBe(0);
    expect(await target.client.exists('app:{t}:b')).toBe(0);
  });

  it('[SRV-7] without the right to one command of a transaction: the error reports what was applied, and it is applied once', async () => {
    const [first, last] = ['app:{r}:a', 'app:{r}:b'];
    // No right to INCRBY.
    const run = async (write: (tx: Transaction) => unknown) => {
      let runs = 0;
      const error: unknown = await target.redis.transactions
        .run([first], (tx) => {
          runs++;
          write(tx);
        })
        .catch((reason: unknown) => reason);
      expect(runs).toBeLessThan(5);
      return { error, values: await target.client.mget(first, last) };
    };
    const ahead = await run((tx) => {
      tx.write.set(first, 1);
      tx.write.incrby(first, 1);
    });
    expect(ahead.error).toBeInstanceOf(RedisReplyError);
    expect(ahead.error).toMatchObject({ reply: 'NOPERM', outcome: 'not-applied', retryable: false });
    expect(ahead.values).toEqual([null, null]);
    const behind = await run((tx) => {
      tx.write.incrby(first, 1);
      tx.write.set(last, 1);
    });
    expect(behind.error).toBeInstanceOf(kind === DOUBLE ? PartialCommitError : RedisReplyError);
    expect(behind.error).toMatchObject({ outcome: kind === DOUBLE ? 'applied' : 'not-applied' });
    expect(behind.values).toEqual([null, kind === DOUBLE ? '1' : null]);
  });

  it('[SRV-7] (I41) for a while: the call waits up to its time-out, and nothing was done', async () => {
    const node = (await target.masters())[0]!;
    // On a Cluster: some key that it has.
    const key = await keyOn(node);
    const { counters, transactions, transfers } = target.redis;
    const durable = { timeoutMs: 3_000, durability: { replicas: 1 } };
    await node.config('SET', 'min-replicas-to-write', '9');
    try {
      const calls = await Promise.allSettled([
        counters.add(`${key}:a`, 1, { timeoutMs: 3_000 }),
        counters.add(`${key}:b`, 1, durable),
        transfers.transfer({ from: `${key}:c`, to: `${key}:d`, amount: 1, min: -1 }, durable),
        transactions.run([`${key}:e`], (tx) => void tx.write.set(`${key}:e`, 1), durable),
      ]);
      for (const one of calls) {
        const { reason } = one as PromiseRejectedResult;
        expect(reason).toBeInstanceOf(RedisUnavailableError);
        expect(reason).toMatchObject({ outcome: 'not-applied', retryable: true });
      }
      const waiting = counters.add(key, 1, { timeoutMs: 20_000 });
      await node.config('SET', 'min-replicas-to-write', '0');
      expect((await waiting).value).toBe(1);
    } finally {
      await node.config('SET', 'min-replicas-to-write', '0');
    }
  });

  async function keyOn(node: { exists(key: string): Promise<number> }): Promise<string> {
    for (let i = 0; ; i++) {
      const found = await node.exists(`app:{${i}}`).then(
        () => true,
        () => false,
      );
      if (found) return `app:{${i}}`;
    }
  }
});

describe('servers that refuse a single call', () => {
  const target = useTarget(kind, { asUser: true });

  it('[SRV-7] (I41) a command of a transaction fails: nothing was done, and other transactions on the key stay exact', async () => {
    const { transactions } = target.redis;
    const key = 'app:{q}:k';
    const calls = await Promise.allSettled(
      Array.from({ length: 30 }, (_, i) =>
        transactions.run([key], async (tx) => {
          tx.write.set(key, Number(await tx.read.get(key)) + 1);
          if (i % 6 !== 3) return;
          // Without its value.
          (tx.write.set as unknown as (key: string) => void)('app:{q}:other');
          tx.write.set('app:{q}:behind', 1);
        }),
      ),
    );
    for (const call of calls)
      if (call.status === 'rejected') {
        expect(call.reason).toBeInstanceOf(RedisReplyError);
        expect(call.reason).toMatchObject({ reply: 'ERR', outcome: 'not-applied', retryable: false });
      }
    expect(calls.filter(({ status }) => status === 'rejected')).toHaveLength(5);
    expect(await target.client.mget(key, 'app:{q}:behind')).toEqual(['25', null]);
  });

  it('[SRV-7] a command within a script fails: the error gives its code and an unknown outcome', async () => {
    const script = defineScript({
      name: 'wrong type',
      keys: ['list'],
      args: [],
      lua: "redis.call('RPUSH', KEYS[1], 'x') return redis.call('GET', KEYS[1])",
      reply: String,
    });
    const running = target.redis.scripts.run(script, { keys: { list: 'app:list' }, args: {} });
    await expect(running).rejects.toMatchObject({
      code: 'REDIS_REPLY',
      reply: 'WRONGTYPE',
      outcome: 'unknown',
      retryable: false,
    });
    expect(await target.client.llen('app:list')).toBe(1);
  });

  it('[SRV-7] a call with more arguments than a server may read succeeds or is refused before it is sent, and no other call is affected', async () => {
    const script = defineScript({
      name: 'count',
      keys: ['key'],
      args: ['...values'],
      lua: "redis.call('SET', KEYS[1], #ARGV) return #ARGV",
      reply: Number,
    });
    const values = Array.from({ length: 70_000 }, () => 'x');
    const [large, ...others] = await Promise.allSettled([
      target.redis.scripts.run(script, { keys: { key: 'app:k' }, args: { values } }),
      ...Array.from({ length: 5 }, () => target.redis.counters.add('app:n', 1)),
    ]);
    if (large.status === 'rejected') expect(large.reason).toBeInstanceOf(InvalidArgumentError);
    else expect(large.value).toBe(70_000);
    expect(large.status).toBe(kind === 'one server' || kind === 'a Cluster' ? 'fulfilled' : 'rejected');
    expect(others.map(({ status }) => status)).toEqual(Array(5).fill('fulfilled'));
  });
});

ofClusters('Clusters that redirect a call', () => {
  const target = useTarget(kind, { asUser: true, replicasPerMaster: 1 });
  const key = 'app:{over}';
  const patient = { timeoutMs: 20_000 };

  const everything = async (round: number, run: () => Promise<number>): Promise<void> => {
    const { counters, transactions } = target.redis;
    expect((await counters.add(key, 1, patient)).value).toBe(round);
    await transactions.run([`${key}:t`], (tx) => void tx.write.set(`${key}:t`, round), patient);
    expect(await target.client.get(`${key}:t`)).toBe(String(round));
    await target.app.get(IdempotencyService).run('over', run, { colocateWith: key, ...patient });
  };

  const mastersOf = async ({ nodes }: TestCluster): Promise<ClusterNode[]> => {
    const roles = await Promise.all(nodes.map(async (node) => (await node.client.role())[0]));
    return nodes.filter((_, i) => roles[i] === 'master');
  };

  it('[SRV-7] (I41) to the new owner of a moved slot: the method runs once there', async () => {
    const cluster = target.cluster!;
    let runs = 0;
    const run = (): Promise<number> => Promise.resolve(++runs);
    await everything(1, run);
    const owner = await cluster.masterOf(key);
    const to = (await mastersOf(cluster)).find((node) => node !== owner)!;
    const migration = await cluster.beginMigration(key, to);
    const meanwhile = everything(2, run);
    await migration.finish();
    await meanwhile;
    await everything(3, run);
    expect(runs).toBe(1);
  });

  it('[SRV-7] (I41) to a node where the user may not ask: the call continues once the slot has moved', async () => {
    const cluster = target.cluster!;
    const allNodes = (rule: string) =>
      Promise.all(cluster.nodes.map((node) => node.client.call('ACL', 'SETUSER', USER, rule)));
    await allNodes('-asking');
    try {
      const owner = await cluster.masterOf(key);
      const to = (await mastersOf(cluster)).find((node) => node !== owner)!;
      const migration = await cluster.beginMigration(key, to);
      // New keys are asked for at the new owner, who refuses.
      let runs = 0;
      const meanwhile = everything(1, () => Promise.resolve(++runs));
      await new Promise((resolve) => setTimeout(resolve, 300));
      await migration.finish();
      await meanwhile;
      expect(runs).toBe(1);
    } finally {
      await allNodes('+asking');
    }
  });

  it('[SRV-7] (I41) after a failover to the new master: the method runs once', async () => {
    const cluster = target.cluster!;
    let runs = 0;
    const run = (): Promise<number> => Promise.resolve(++runs);
    await everything(1, run);
    const [replica] = await cluster.replicasOf(await cluster.masterOf(key));
    await replica!.client.call('CLUSTER', 'FAILOVER');
    await waitFor('the replica is the master', async () => (await cluster.masterOf(key)) === replica);
    await everything(2, run);
    expect(runs).toBe(1);
  });
});
