import { Inject, Injectable } from '@nestjs/common';
import { OPTIONS } from './atomic-redis.constants.js';
import type { AtomicRedisError } from './atomic-redis.errors.js';
import type { ResolvedOptions } from './atomic-redis.options.js';
import { Deadline } from './runtime/deadline.js';
import { IdempotencyService } from './idempotency/idempotency.service.js';
import { callIfThere } from './method-wrapping/replaced-service.js';
import { RedisConnection } from './connection/redis-connection.js';
import type { ServerStatus } from './connection/server-status.js';
import { checkQueryOptions, type QueryOptions } from './operations/operation.options.js';
import { PermitService, type PermitStatus } from './permits/permit.service.js';
import { WorkInFlight } from './runtime/work-in-flight.js';
import type { PoolStatus } from './transactions/connection-pools.js';
import { TransactionService } from './transactions/transaction.service.js';

/** State of a registration. */
export interface AtomicRedisStatus {
  /** Reason why it cannot work at the moment; undefined when every server answered. */
  readonly error: AtomicRedisError | undefined;
  /** Status of the server, or of each master of a Cluster; empty unless all of them answered. */
  readonly servers: readonly ServerStatus[];
  /** The connections that transactions take turns on, of all servers together. */
  readonly transactions: PoolStatus;
  /** The permits of this process. */
  readonly permits: PermitStatus;
  /** Operations under way, which shutdown would wait for. */
  readonly operationsInFlight: number;
  /**
   * Idempotency keys that wait for an operator, up to 100; see `IdempotencyService.held`. Undefined
   * on a Cluster, where too many slots would have to be asked, and where that could not be read.
   */
  readonly heldKeys: number | undefined;
}

@Injectable()
export class StatusReader {
  constructor(
    private readonly connection: RedisConnection,
    private readonly transactions: TransactionService,
    private readonly permits: PermitService,
    private readonly idempotency: IdempotencyService,
    private readonly work: WorkInFlight,
    @Inject(OPTIONS) private readonly options: ResolvedOptions,
  ) {}

  async read(options: QueryOptions = {}): Promise<AtomicRedisStatus> {
    checkQueryOptions('options', options);
    const { timeoutMs = this.options.timeoutMs } = options;
    let servers: ServerStatus[] = [];
    let error: AtomicRedisError | undefined;
    let heldKeys: number | undefined;
    const deadline = Deadline.in(timeoutMs);
    try {
      // Together, so that they leave in one write.
      [servers, heldKeys] = await Promise.all([
        this.connection.statusOfServers(deadline),
        this.heldKeys(deadline),
      ]);
    } catch (caught) {
      error = caught as AtomicRedisError;
    }
    return {
      error,
      servers,
      transactions: this.transactions.pool,
      permits: this.permits.status,
      operationsInFlight: this.work.inFlight,
      heldKeys,
    };
  }

  /**
   * Reads the number of held keys. A failure, such as a missing right, leaves the server healthy.
   */
  private async heldKeys(deadline: Deadline): Promise<number | undefined> {
    const count = callIfThere(this.idempotency, 'heldCount', deadline) as
      Promise<number | undefined> | undefined;
    return await count?.catch(() => undefined);
  }
}
