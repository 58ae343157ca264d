import { Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import { InjectQueue, QueueConsumer, type QueueJob, type ReliableQueue } from 'nestjs-atomic-redis';
import { sentMailsKey } from '../redis/keys.js';
import type { MailCounts } from './mail.dto.js';
import { orderMails, type OrderMail } from './order-mails.js';

@Injectable()
export class MailsService {
  constructor(
    @InjectQueue(orderMails) private readonly queue: ReliableQueue<OrderMail>,
    private readonly redis: Redis,
  ) {}

  async enqueue(mail: OrderMail): Promise<string> {
    return await this.queue.push(mail);
  }

  /**
   * A shop that is killed while it sends leaves the mail to another, so it may be sent again: by
   * the job's id it stays one mail.
   */
  @QueueConsumer(orderMails, { concurrency: 4, leaseMs: 3_000 })
  async send(job: QueueJob<OrderMail>): Promise<void> {
    await this.redis.hset(sentMailsKey, job.id, job.payload.text);
  }

  async counts(): Promise<MailCounts> {
    const [counts, sent] = await Promise.all([this.queue.counts(), this.redis.hlen(sentMailsKey)]);
    return { ...counts, sent };
  }
}
