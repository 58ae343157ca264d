import { Injectable } from '@nestjs/common';
import { CounterService } from './counters/counter.service.js';
import { ReservationService } from './counters/reservations/reservation.service.js';
import { IdempotencyService } from './idempotency/idempotency.service.js';
import { AtomicRedisEvents } from './observability/events.js';
import { TransactionService } from './transactions/transaction.service.js';

/** All services of one registration. Injected by `@InjectAtomicRedis(name)`. */
@Injectable()
export class AtomicRedis {
  constructor(
    readonly transactions: TransactionService,
    readonly idempotency: IdempotencyService,
    readonly counters: CounterService,
    readonly reservations: ReservationService,
    readonly events: AtomicRedisEvents,
  ) {}
}
