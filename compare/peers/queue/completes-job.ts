import { Inject, Injectable } from '@nestjs/common';
import {
  InjectTransaction,
  OptimisticRetry,
  QueueConsumer,
  ReliableQueueService,
  type QueueJob,
  type Transaction,
} from 'nestjs-atomic-redis';
import { LEASE_MS, type Queue, type QueuePlace } from '../../tool.js';
import { startApp } from '../atomic-redis.js';

const PLACE = Symbol('the work of a job');

/** The effect is in the queue's own Redis: a list for each job, in one EXEC with its end. */
@Injectable()
class Mails {
  constructor(
    private readonly queues: ReliableQueueService,
    @InjectTransaction() private readonly tx: Transaction,
    @Inject(PLACE) private readonly place: QueuePlace,
  ) {}

  @QueueConsumer('mails', { leaseMs: LEASE_MS, retry: { minMs: 50, maxMs: 500 } })
  @OptimisticRetry({
    watch: (job: QueueJob<string>) => `effects:${job.payload}`,
    completesJob: (job: QueueJob<string>) => job,
  })
  async send({ payload }: QueueJob<string>): Promise<void> {
    await this.place.pause(payload);
    this.tx.write.rpush(`effects:${payload}`, 'sent');
  }

  push(id: string): Promise<string> {
    return this.queues.get<string>('mails').push(id);
  }

  async isIdle(): Promise<boolean> {
    const { pending, processing } = await this.queues.get('mails').counts();
    return pending + processing === 0;
  }
}

export async function start(place: QueuePlace): Promise<Queue> {
  const { provider: mails, close } = await startApp(place.url, Mails, [{ provide: PLACE, useValue: place }]);
  return { push: (id) => mails.push(id), isIdle: () => mails.isIdle(), close };
}

export { notApplied } from '../atomic-redis.js';
