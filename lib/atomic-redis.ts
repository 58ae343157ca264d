import { Injectable } from '@nestjs/common';
import { AuditedHashService } from './audited-hashes/audited-hash.service.js';
import { CounterService } from './counters/counter.service.js';
import { ReservationService } from './counters/reservations/reservation.service.js';
import { LimitService } from './limits/limit.service.js';
import { IdempotencyService } from './idempotency/idempotency.service.js';
import { ListService } from './lists/list.service.js';
import { PermitService } from './permits/permit.service.js';
import { ReliableQueueService } from './queues/reliable-queue.service.js';
import { AtomicRedisEvents } from './observability/events.js';
import { StatusReader, type AtomicRedisStatus } from './atomic-redis.status.js';
import type { QueryOptions } from './operations/operation.options.js';
import { ScriptService } from './own-scripts/script.service.js';
import { ShadowKeyService } from './shadow-keys/shadow-key.service.js';
import { TransactionService } from './transactions/transaction.service.js';
import { ValueService } from './values/value.service.js';
import { TransferService } from './transfers/transfer.service.js';

/** All services of one registration. Injected by `@InjectAtomicRedis(name)`. */
@Injectable()
export class AtomicRedis {
  constructor(
    readonly transactions: TransactionService,
    readonly idempotency: IdempotencyService,
    readonly counters: CounterService,
    readonly reservations: ReservationService,
    readonly values: ValueService,
    readonly auditedHashes: AuditedHashService,
    readonly transfers: TransferService,
    readonly scripts: ScriptService,
    readonly shadowKeys: ShadowKeyService,
    readonly events: AtomicRedisEvents,
    readonly queues: ReliableQueueService,
    readonly lists: ListService,
    readonly permits: PermitService,
    readonly limits: LimitService,
    private readonly statusReader: StatusReader,
  ) {}

  /**
   * Returns the state of the registration: its servers' answers, and what is under way. For health
   * checks; takes one round trip. `timeoutMs` is the time for all servers to answer, connecting
   * included.
   *
   * @throws InvalidArgumentError for a wrong option; what is wrong with Redis is in the `error` of
   * what comes back
   */
  async status(options?: QueryOptions): Promise<AtomicRedisStatus> {
    return await this.statusReader.read(options);
  }
}
