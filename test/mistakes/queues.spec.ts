import { Redis } from 'ioredis';
import type { QueueJob, ReliableQueueService } from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { useAtomicRedis } from './app.js';
import { useMistake } from './mistakes.js';

const redis = useRedis();
let proxy: FaultProxy;
beforeAll(async () => void (proxy = await startFaultProxy({ target: redis.server })));
afterAll(() => proxy.stop());
const atomic = useAtomicRedis(() => ({ connection: proxy.url, namespace: 'atomic:' }));

describe('[DOC-2] pop, then work', () => {
  interface Working<Service> {
    workOff(service: Service, send: (mail: string) => Promise<void>): Promise<void>;
  }
  const mistake = useMistake<Working<Redis>, Working<ReliableQueueService>>('Pop, then work');
  /** The process dies in the middle of its first job. */
  const die = async (): Promise<void> => {
    throw new Error('killed');
  };
  const sent: string[] = [];
  const send = async (mail: string) => void sent.push(mail);

  beforeEach(() => sent.splice(0));

  it('loses the job of a process that dies', async () => {
    await redis.client.rpush('mails', 'to ada', 'to grace');
    await expect(mistake.wrong.workOff(redis.client, die)).rejects.toThrow('killed');
    await mistake.wrong.workOff(redis.client, send);
    expect(sent).toEqual(['to grace']);
  });

  it('delivers the job again when replaced by leased jobs', async () => {
    const { queues } = atomic.services;
    await queues.get<string>('mails').pushMany(['to ada', 'to grace']);
    await expect(mistake.right.workOff(queues, die)).rejects.toThrow('killed');
    await waitFor('both mails', async () => {
      await mistake.right.workOff(queues, send);
      return sent.length >= 2;
    });
    expect(sent.toSorted()).toEqual(['to ada', 'to grace']);
  });
});

describe('[DOC-2] LREM by payload', () => {
  const mistake = useMistake<
    { take(redis: Redis): Promise<string>; acknowledge(redis: Redis, mail: string): Promise<number> },
    {
      take(queues: ReliableQueueService): Promise<QueueJob<string>>;
      acknowledge(job: QueueJob<string>): Promise<boolean>;
    }
  >('LREM by payload');

  it('removes another process’s equal job when its reply is lost', async () => {
    await redis.client.rpush('mails', 'to ada', 'to ada');
    const client = new Redis(proxy.url);
    try {
      const mine = await mistake.wrong.take(client);
      const theirs = await mistake.wrong.take(redis.client);
      expect([mine, theirs]).toEqual(['to ada', 'to ada']);
      const fault = proxy.loseReplies({ match: ({ name }) => name === 'LREM' });
      expect(await mistake.wrong.acknowledge(client, mine)).toBe(1);
      expect(fault.count).toBe(1);
      // The other process is still at work, and there is nothing left to recover it by.
      expect(await redis.client.exists('in-work', 'mails')).toBe(0);
    } finally {
      client.disconnect();
    }
  });

  it('ends only its own job when replaced by an acknowledgement of the delivery', async () => {
    const { queues } = atomic.services;
    const mails = queues.get<string>('mails');
    await mails.pushMany(['to ada', 'to ada']);
    const [mine] = [await mistake.right.take(queues), await mistake.right.take(queues)];
    const fault = proxy.loseReplies({ match: ({ name }) => name === 'EVALSHA' });
    expect(await mistake.right.acknowledge(mine)).toBe(true);
    expect(fault.count).toBe(1);
    expect(await mails.counts()).toMatchObject({ pending: 0, delayed: 0, processing: 1 });
  });
});
