import type { Redis } from 'ioredis';
import { ReliableQueueService, ShadowKeyService } from 'nestjs-atomic-redis';
import { targetOfEnvironment, useTarget } from '../support/target.js';

const kind = targetOfEnvironment();
const ofClusters = kind === 'a Cluster' ? describe : describe.skip;

ofClusters('the routing of commands on a Cluster', () => {
  const target = useTarget(kind, { asUser: true, replicasPerMaster: 1 });

  const everything = async (i: number): Promise<void> => {
    const { counters, idempotency, reservations, transactions, transfers, values } = target.redis;
    const key = `app:{${i}}`;
    await counters.add(key, 5);
    await reservations.hold(key, 1, { ttlMs: 60_000 });
    await transactions.run([`${key}:t`], async (tx) => {
      tx.write.set(`${key}:t`, String(await tx.read.get(`${key}:t`)));
    });
    await idempotency.run(`order ${i}`, () => Promise.resolve(1));
    await values.getAndSet(`${key}:v`, 'x');
    await transfers.transfer({ from: key, to: `${key}:b`, amount: 1, min: 0 });
    await transfers.acrossSlots({ from: key, to: `app:{${i + 1}}:b`, amount: 1 });
    await target.app.get(ShadowKeyService).replace(`${key}:s`, (writer) => writer.rpush('x'));
    const queue = target.app.get(ReliableQueueService).get(`queue ${i}`);
    await queue.push('job');
    await (await queue.take())!.ack();
  };

  it('[SRV-9] sends every command directly to the owner of its slot, and asks replicas nothing', async () => {
    const masters = await target.masters();
    const replicas = target
      .cluster!.nodes.map(({ client }) => client)
      .filter((node) => !masters.includes(node));
    await Promise.all(target.cluster!.nodes.map(({ client }) => client.config('RESETSTAT')));
    for (let i = 0; i < 30; i++) await everything(i);
    expect(await Promise.all(masters.map(redirections))).toEqual(masters.map(() => 0));
    const asked = await Promise.all(replicas.map((node) => node.info('commandstats')));
    expect(asked.join('\n')).not.toMatch(/cmdstat_(eval|evalsha|watch|time|get|hget|lrange)\b/);
  });

  async function redirections(node: Redis): Promise<number> {
    const stats = await node.info('errorstats');
    return [...stats.matchAll(/errorstat_(?:MOVED|ASK|TRYAGAIN):count=(\d+)/g)].reduce(
      (sum, [, n]) => sum + Number(n),
      0,
    );
  }
});
