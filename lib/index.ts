export { AtomicRedisModule } from './atomic-redis.module.js';
export type { AtomicRedisOptions } from './atomic-redis.options.js';
export { AtomicRedis } from './atomic-redis.js';
export {
  getAtomicRedisToken,
  getQueueToken,
  getRunToken,
  getScriptToken,
  getTransactionToken,
} from './atomic-redis.constants.js';
export { InjectAtomicRedis } from './inject-atomic-redis.decorator.js';
export {
  AtomicRedisError,
  ConfigurationError,
  CrossSlotError,
  UnsafeIntegerError,
  InvalidArgumentError,
  LeaseLostError,
  ModuleClosedError,
  NotAnIntegerError,
  NotReplicatedError,
  InvalidUtf8Error,
  OutcomeUnknownError,
  RedisReplyError,
  RedisUnavailableError,
  IllegalTransactionStateError,
  WrongTypeError,
  type Outcome,
} from './atomic-redis.errors.js';

export type { ConnectionOption } from './connection/client.js';
export type { DurabilityOptions } from './connection/durability.js';
export type { Decoded, Encoding } from './scripting/encoding.js';
export { hashTag } from './scripting/hash-slot.js';
export type { EnforceableOptions, OperationOptions } from './operations/operation.options.js';
export type { CheckedMethodDecorator } from './method-wrapping/wrap-method.js';
export { Propagation } from './runtime/transaction-scope.js';
export { defineScript, type Script } from './scripting/script.js';

export { OptimisticRetry, type OptimisticRetryOptions } from './transactions/optimistic-retry.decorator.js';
export { InjectTransaction } from './transactions/current-transaction.js';
export { Transaction } from './transactions/transaction.js';
export type {
  QueuedWrite,
  TransactionReads,
  TransactionWrites,
} from './transactions/transaction-commands.js';
export { TransactionService } from './transactions/transaction.service.js';
export type { TransactionOptions } from './transactions/transaction.options.js';
export {
  PartialCommitError,
  RepliesLostError,
  TransactionConflictError,
  TransactionTimeoutError,
} from './transactions/transaction.errors.js';

export { Idempotent } from './idempotency/idempotent.decorator.js';
export type { IdempotentOptions } from './idempotency/idempotent.options.js';
export { IdempotencyService } from './idempotency/idempotency.service.js';
export type { IdempotencyRecord, Settlement } from './idempotency/administration.options.js';
export type { HeldKey, HeldKeys } from './idempotency/held.options.js';
export type { StepSummary } from './idempotency/record-summary.js';
export type { SettledResponse } from './idempotency/settled-response.js';
export type { KeyReference } from './idempotency/key-reference.js';
export type { IdempotencyOptions } from './idempotency/idempotency-call.options.js';
export type { ResultCodec, ResultEncryption } from './idempotency/result-codec.js';
export { isIdempotentReplay } from './idempotency/http/http-exchange.js';
export { callerEvidence, callerScope } from './idempotency/http/caller.js';
export type { HttpRequest } from './http/http-request.js';
export { IdempotentRun } from './idempotency/idempotent-run.js';
export type { AbandonedRun } from './idempotency/abandoned.options.js';
export { InjectRun } from './idempotency/current-run.js';
export type { ProbeFinding, RunStep, StepOptions, StepProbe } from './idempotency/steps/step.options.js';
export {
  IdempotencyCallerMismatchError,
  IdempotencyCallerUnknownError,
  IdempotencyInFlightError,
  IdempotencyKeyInvalidError,
  IdempotencyKeyMissingError,
  IdempotencyMismatchError,
  IdempotencyRecordError,
  IdempotencyResultUnavailableError,
  IllegalRunStateError,
  ProbeFailedError,
  ReplayedError,
  RunTimeoutError,
  StepInterruptedError,
} from './idempotency/idempotency.errors.js';

export { AtomicCounter, type AtomicCounterOptions } from './counters/atomic-counter.decorator.js';
export { CounterValue } from './counters/counter-value.decorator.js';
export { CounterService } from './counters/counter.service.js';
export type { CounterAddition, CounterAddOptions } from './counters/counter-arguments.js';
export type { CounterResult, CountersResult, Undoable } from './counters/counter-result.js';
export { CounterLimitError, CounterOverflowError } from './counters/counter.errors.js';
export { ReservationService } from './counters/reservations/reservation.service.js';
export type { Hold, HoldOptions } from './counters/reservations/reservation.options.js';

export { LimitService } from './limits/limit.service.js';
export type { Limit } from './limits/limit.js';
export type { LimitResult, LimitsResult } from './limits/limit-result.js';
export type { LimitReservation } from './limits/limit-reservation.js';
export { LimitCostError, LimitExceededError } from './limits/limit.errors.js';
export { RateLimit } from './limits/rate-limit.decorator.js';
export type { RateLimitOptions } from './limits/rate-limit.options.js';

export { TransferService } from './transfers/transfer.service.js';
export type { Balances, Transfer, TransferOptions } from './transfers/transfer.options.js';
export type { AcrossSlotsTransfer } from './transfers/across-slots/across-slots.options.js';
export type { PendingTransfer } from './transfers/across-slots/pending-transfer.js';
export {
  BalanceOverflowError,
  InsufficientFundsError,
  TransferPendingError,
} from './transfers/transfer.errors.js';

export { InjectScript } from './own-scripts/inject-script.decorator.js';
export { ScriptService, type ScriptFunction, type ScriptInput } from './own-scripts/script.service.js';
export { UndeclaredKeyError } from './own-scripts/script.errors.js';

export { ValueService, type CompareAndSetResult } from './values/value.service.js';
export type { ValueOptions, ValueWriteOptions } from './values/value.options.js';

export {
  AuditedHashService,
  type AuditEntry,
  type AuditHistory,
} from './audited-hashes/audited-hash.service.js';
export type { AuditOptions } from './audited-hashes/audited-hash.options.js';
export { NotAnAuditLogError } from './audited-hashes/audited-hash.errors.js';

export { ShadowKeyService, type ReplaceResult } from './shadow-keys/shadow-key.service.js';
export type { ReplaceOptions } from './shadow-keys/shadow-key.options.js';
export type { ShadowSource } from './shadow-keys/shadow-source.js';
export type { ShadowWriter } from './shadow-keys/shadow-writer.js';
export { ShadowBuildEndedError, ShadowEmptyError, ShadowLostError } from './shadow-keys/shadow-key.errors.js';

export { AtomicRedisEvents } from './observability/events.js';
export type { AtomicRedisEvent } from './observability/event-types.js';
export type { Telemetry, TelemetryReporter } from './observability/telemetry.js';
export type { AtomicRedisStatus } from './atomic-redis.status.js';

export { QueueConsumer, type QueueConsumerOptions } from './queues/queue-consumer.decorator.js';
export { InjectQueue } from './queues/inject-queue.decorator.js';
export { defineQueue, type QueueDefinition } from './queues/queue-definition.js';
export { InvalidPayloadError } from './queues/queue.errors.js';
export type { SchemaIssue, SchemaResult, StandardSchema } from './queues/standard-schema.js';
export { ReliableQueueService } from './queues/reliable-queue.service.js';
export type { PushOptions, ReliableQueue } from './queues/reliable-queue.js';
export type { QueueJob } from './queues/queue-job.js';
export type { DeadLetter } from './queues/dead-letter.js';
export type { DeadLetters } from './queues/dead-letters.js';
export type { RunningConsumer } from './queues/running-consumer.js';
export type { QueueOptions } from './queues/queue.options.js';

export { PermitService } from './permits/permit.service.js';
export { WithPermit, type WithPermitOptions } from './permits/with-permit.decorator.js';
export type { Permit } from './leases/permit.js';
export type { AcquireOptions } from './permits/permit.options.js';
export { PermitUnavailableError } from './permits/permit.errors.js';

export { ListService, type MoveOptions } from './lists/list.service.js';

export { AtomicRedisExceptionFilter } from './problem-details/atomic-redis-exception.filter.js';
