import { Injectable } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { AtomicRedisModule, Idempotent, QueueConsumer, type QueueJob } from '../../lib/index.js';

export interface IdempotentData {
  url: string;
  queueLeaseMs: number;
  idempotencyLeaseMs: number;
  isInner: boolean;
}

@Injectable()
export class Mails {
  static readonly sent: string[] = [];
  static begin: (payload: string) => unknown = () => undefined;

  @Idempotent({ key: (job: QueueJob<string>) => job.id, operation: 'mails.send' })
  async send(job: QueueJob<string>) {
    await Mails.begin(job.payload);
    Mails.sent.push(job.payload);
  }
}

@Injectable()
export class Outer extends Mails {
  @QueueConsumer('mails', { maxDeliveries: 2 })
  @Idempotent({ key: (job: QueueJob<string>) => job.id, operation: 'mails.send' })
  override async send(job: QueueJob<string>) {
    await Mails.begin(job.payload);
    Mails.sent.push(job.payload);
  }
}

@Injectable()
export class Inner {
  constructor(private readonly mails: Mails) {}
  @QueueConsumer('mails', { maxDeliveries: 2 })
  async consume(job: QueueJob<string>) {
    await this.mails.send(job);
  }
}

/** An application whose consumer sends each mail once. */
export async function openMails({ url, queueLeaseMs, idempotencyLeaseMs, isInner }: IdempotentData) {
  const app = await Test.createTestingModule({
    imports: [
      AtomicRedisModule.forRoot({
        connection: url,
        namespace: 'atomic:',
        shutdownTimeoutMs: 200,
        queues: { leaseMs: queueLeaseMs },
        idempotency: { leaseMs: idempotencyLeaseMs },
      }),
    ],
    providers: isInner ? [Mails, Inner] : [Outer],
  }).compile();
  app.useLogger(false);
  return app;
}
