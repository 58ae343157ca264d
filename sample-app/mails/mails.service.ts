import { Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import { QueueConsumer, ReliableQueueService, type QueueJob } from 'nestjs-atomic-redis';
import { sentMailsKey } from '../redis/keys.js';
import type { MailCounts } from './mail.dto.js';

export interface OrderMail {
  orderId: number;
  text: string;
}

const QUEUE = 'order-mails';

@Injectable()
export class MailsService {
  constructor(
    private readonly queues: ReliableQueueService,
    private readonly redis: Redis,
  ) {}

  async enqueue(mail: OrderMail): Promise<string> {
    return await this.queues.get<OrderMail>(QUEUE).push(mail);
  }

  /**
   * A shop that is killed while it sends leaves the mail to another, so it may be sent again: by
   * the job's id it stays one mail.
   */
  @QueueConsumer(QUEUE, { concurrency: 4, leaseMs: 3_000 })
  async send(job: QueueJob<OrderMail>): Promise<void> {
    await this.redis.hset(sentMailsKey, job.id, job.payload.text);
  }

  async counts(): Promise<MailCounts> {
    const [counts, sent] = await Promise.all([
      this.queues.get(QUEUE).counts(),
      this.redis.hlen(sentMailsKey),
    ]);
    return { ...counts, sent };
  }
}
