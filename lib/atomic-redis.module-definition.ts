import { ConfigurableModuleBuilder, type Provider } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import {
  DEFAULT_REGISTRATION,
  getAtomicRedisToken,
  getRunToken,
  getTransactionToken,
  GIVEN_OPTIONS,
  OPERATIONS,
  OPTIONS,
  REGISTRATION_NAME,
} from './atomic-redis.constants.js';
import { resolveOptions, type AtomicRedisOptions, type ResolvedOptions } from './atomic-redis.options.js';
import { ALL_OPERATIONS } from './atomic-redis.operations.js';
import * as check from './atomic-redis.validation.js';
import { AtomicRedis } from './atomic-redis.js';
import { AuditedHashService } from './audited-hashes/audited-hash.service.js';
import { CounterService } from './counters/counter.service.js';
import { ReservationService } from './counters/reservations/reservation.service.js';
import { CurrentRun } from './idempotency/current-run.js';
import { IdempotencyService } from './idempotency/idempotency.service.js';
import { LimitService } from './limits/limit.service.js';
import { ListService } from './lists/list.service.js';
import { AtomicRedisEvents } from './observability/events.js';
import { Observer } from './observability/observer.js';
import { StatusReader } from './atomic-redis.status.js';
import { AtomicRedisExceptionFilter } from './problem-details/atomic-redis-exception.filter.js';
import { PermitService } from './permits/permit.service.js';
import { DeclaredConsumers } from './queues/declared-consumers.js';
import { ReliableQueueService } from './queues/reliable-queue.service.js';
import { OperationRunner } from './operations/operation-runner.js';
import { RedisConnection } from './connection/redis-connection.js';
import { ScriptRunner } from './scripting/script-runner.js';
import { WorkInFlight } from './runtime/work-in-flight.js';
import { ScriptService } from './own-scripts/script.service.js';
import { ShadowKeyService } from './shadow-keys/shadow-key.service.js';
import { CurrentTransaction } from './transactions/current-transaction.js';
import { TransactionService } from './transactions/transaction.service.js';
import { ValueService } from './values/value.service.js';
import { AcrossSlotsTransfers } from './transfers/across-slots/across-slots-transfers.js';
import { TransferService } from './transfers/transfer.service.js';

/** Settings beside the options in `forRoot` and `forRootAsync`, outside the factory. @inline */
export interface AtomicRedisModuleExtras {
  /** Make the services injectable everywhere without importing the module again. @default true */
  isGlobal?: boolean;
  /**
   * Names the registration, to have several side by side; it is then injected by
   * `@InjectAtomicRedis(name)`.
   */
  name?: string;
  /**
   * Register the module's own exception filter, which answers this library's errors in the form of
   * each transport, over HTTP as `application/problem+json`. Without it they still leave a route as
   * an `HttpException` with their status and problem details. @default true
   */
  exceptionFilter?: boolean;
}

const checkExtras = check.options({
  isGlobal: check.boolean,
  name: check.nonEmptyString,
  exceptionFilter: check.boolean,
} satisfies Record<keyof AtomicRedisModuleExtras, check.Check>);

/** The injectable services of a registration. */
export const SERVICES = [
  TransactionService,
  IdempotencyService,
  CounterService,
  ReservationService,
  ValueService,
  AuditedHashService,
  TransferService,
  ScriptService,
  ShadowKeyService,
  ReliableQueueService,
  ListService,
  PermitService,
  LimitService,
  AtomicRedisEvents,
];

const PROVIDERS: Provider[] = [
  { provide: OPERATIONS, useValue: ALL_OPERATIONS },
  { provide: OPTIONS, useFactory: resolveOptions, inject: [GIVEN_OPTIONS] },
  {
    provide: RedisConnection,
    useFactory: (options: ResolvedOptions, name: string, observer: Observer) =>
      new RedisConnection({ ...options, name, observer }),
    inject: [OPTIONS, REGISTRATION_NAME, Observer],
  },
  {
    provide: ScriptRunner,
    useFactory: (connection: RedisConnection) => new ScriptRunner(connection),
    inject: [RedisConnection],
  },
  Observer,
  WorkInFlight,
  OperationRunner,
  AtomicRedis,
  StatusReader,
  CurrentTransaction,
  CurrentRun,
  DeclaredConsumers,
  AcrossSlotsTransfers,
  ...SERVICES,
];

export const { ConfigurableModuleClass } = new ConfigurableModuleBuilder<AtomicRedisOptions>({
  optionsInjectionToken: GIVEN_OPTIONS,
})
  .setClassMethodName('forRoot')
  .setFactoryMethodName('createAtomicRedisOptions')
  .setExtras<AtomicRedisModuleExtras>(
    { isGlobal: true, name: DEFAULT_REGISTRATION, exceptionFilter: true },
    (definition, { isGlobal = true, name = DEFAULT_REGISTRATION, exceptionFilter = true }) => {
      checkExtras('forRoot', { isGlobal, name, exceptionFilter });
      const isDefault = name === DEFAULT_REGISTRATION;
      const token = getAtomicRedisToken(name);
      return {
        ...definition,
        global: isGlobal,
        providers: [
          ...(definition.providers ?? []),
          ...PROVIDERS,
          { provide: REGISTRATION_NAME, useValue: name },
          { provide: token, useExisting: AtomicRedis },
          { provide: getTransactionToken(name), useExisting: CurrentTransaction },
          { provide: getRunToken(name), useExisting: CurrentRun },
          ...(exceptionFilter ? [{ provide: APP_FILTER, useClass: AtomicRedisExceptionFilter }] : []),
        ],
        // A named registration shows only its façade, so that it is not mistaken for the default
        // one.
        exports: [
          token,
          getTransactionToken(name),
          getRunToken(name),
          ...(isDefault ? [AtomicRedis, ...SERVICES] : []),
        ],
      };
    },
  )
  .build();
