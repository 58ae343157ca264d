import { Inject, Injectable } from '@nestjs/common';
import { QueueConsumer, ReliableQueueService, type QueueJob } from 'nestjs-atomic-redis';
import { LEASE_MS, type Queue, type QueuePlace } from '../../tool.js';
import { startApp } from '../atomic-redis.js';

const PLACE = Symbol('the work of a job');

@Injectable()
class Mails {
  constructor(
    private readonly queues: ReliableQueueService,
    @Inject(PLACE) private readonly place: QueuePlace,
  ) {}

  @QueueConsumer('mails', { leaseMs: LEASE_MS, retry: { minMs: 50, maxMs: 500 } })
  async send({ payload }: QueueJob<string>): Promise<void> {
    await this.place.handle(payload);
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
