export { AtomicRedisModule } from './atomic-redis.module.js';
export type { Feature } from './atomic-redis.feature.module.js';
export type { AtomicRedisModuleExtras } from './atomic-redis.module-definition.js';
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

export type { ClusterConnection, ConnectionOption, RedisClient } from './connection/client.js';
export type { DurabilityOptions } from './connection/durability.js';
export type { BinaryValue, Decoded, Encoding } from './scripting/encoding.js';
export { hashTag } from './scripting/hash-slot.js';
export type { EnforceableOptions, OperationOptions, QueryOptions } from './operations/operation.options.js';
export type { CompletableJob } from './scripting/completable-job.js';
export type { PushTarget, QueuedPushOptions } from './scripting/queued-push.js';
export { Propagation } from './runtime/transaction-scope.js';
export {
  defineScript,
  type Script,
  type ScriptArgument,
  type ScriptSpecification,
} from './scripting/script.js';

export { OptimisticRetry, type OptimisticRetryOptions } from './transactions/optimistic-retry.decorator.js';
export { InjectTransaction } from './transactions/current-transaction.js';
export type { ExecReplies } from './transactions/exec-replies.js';
export { Transaction } from './transactions/transaction.js';
export type {
  QueuedWrite,
  TransactionReads,
  TransactionWrites,
} from './transactions/transaction-commands.js';
export { TransactionService } from './transactions/transaction.service.js';
export type {
  BackoffOptions,
  TransactionModuleOptions,
  TransactionOptions,
} from './transactions/transaction.options.js';
export {
  PartialCommitError,
  RepliesLostError,
  TransactionConflictError,
  TransactionTimeoutError,
} from './transactions/transaction.errors.js';

export type { IdempotencyHeaders, IdempotencyPreset } from './idempotency/http/idempotency-headers.js';
export { Idempotent } from './idempotency/idempotent.decorator.js';
export type { IdempotentOptions } from './idempotency/idempotent.options.js';
export { IdempotencyService } from './idempotency/idempotency.service.js';
export type {
  ForgetOptions,
  IdempotencyRecord,
  Settlement,
  SettleOptions,
} from './idempotency/administration.options.js';
export type { HeldKey, HeldKeys, HeldOptions } from './idempotency/held.options.js';
export type { StepSummary } from './idempotency/record-summary.js';
export type { KeyReference, RecordReference, RequestReference } from './idempotency/key-reference.js';
export type { IdempotencyKeyOptions, IdempotencyOptions } from './idempotency/idempotency-call.options.js';
export type {
  IdempotencyDefaults,
  IdempotencyModuleOptions,
  OnError,
  ReplayCacheOptions,
  RequestScope,
} from './idempotency/idempotency.options.js';
export type { ResultCodec, ResultEncryption } from './idempotency/result-codec.js';
export type { ResultNeed } from './idempotency/result-handling.js';
export { isIdempotentReplay } from './idempotency/http/http-exchange.js';
export type { AnsweredResponse, OnResponse } from './idempotency/http/outcome.js';
export { callerEvidence, callerScope, type CallerRequest } from './idempotency/http/caller.js';
export type { GatewayContext, HttpRequest } from './http/http-request.js';
export { IdempotentRun } from './idempotency/idempotent-run.js';
export type {
  AbandonedFinding,
  AbandonedProbe,
  AbandonedRun,
  OnAbandoned,
} from './idempotency/abandoned.options.js';
export type { SettledResponse } from './idempotency/settled-response.js';
export { InjectRun } from './idempotency/current-run.js';
export type {
  ProbeFinding,
  ProbedStep,
  RunStep,
  StepOptions,
  StepProbe,
  StepWork,
} from './idempotency/steps/step.options.js';
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
  type HoldReason,
  type TombstoneReason,
} from './idempotency/idempotency.errors.js';

export { AtomicCounter, type AtomicCounterOptions } from './counters/atomic-counter.decorator.js';
export { CounterValue } from './counters/counter-value.decorator.js';
export { CounterService } from './counters/counter.service.js';
export type {
  CounterAddAllOptions,
  CounterAddition,
  CounterAddOptions,
  CounterBounds,
  CounterCallOptions,
  CounterRunOptions,
  CounterWriteOptions,
} from './counters/counter-arguments.js';
export type {
  CounterResult,
  CountersResult,
  UndoableCount,
  UndoableCounts,
} from './counters/counter-result.js';
export type { CounterModuleOptions } from './counters/counter.options.js';
export { CounterLimitError, CounterOverflowError } from './counters/counter.errors.js';
export { ReservationService } from './counters/reservations/reservation.service.js';
export type { HeldQuantity, Hold, HoldOptions } from './counters/reservations/reservation.options.js';

export { LimitService } from './limits/limit.service.js';
export type { Limit, LimitAlgorithm, LimitName } from './limits/limit.js';
export type { LimitResult, LimitsResult } from './limits/limit-result.js';
export type { LimitReservation, NotReserved, Reserved, ReserveOptions } from './limits/limit-reservation.js';
export type { LimitModuleOptions } from './limits/limit.options.js';
export { LimitCostError, LimitExceededError } from './limits/limit.errors.js';
export { RateLimit } from './limits/rate-limit.decorator.js';
export type { RateLimitOptions, RateLimitRule } from './limits/rate-limit.options.js';
export type { LimitPolicy } from './problem-details/rate-limit-fields.js';

export { TransferService } from './transfers/transfer.service.js';
export type { Balances, Transfer, TransferAudit, TransferOptions } from './transfers/transfer.options.js';
export type {
  AcrossSlotsBalances,
  AcrossSlotsOptions,
  AcrossSlotsTransfer,
  PendingTransfers,
  PendingTransfersOptions,
  RecoverOptions,
  Recovery,
} from './transfers/across-slots/across-slots.options.js';
export type { PendingTransfer, TransferState } from './transfers/across-slots/pending-transfer.js';
export {
  BalanceOverflowError,
  InsufficientFundsError,
  TransferPendingError,
} from './transfers/transfer.errors.js';

export { InjectScript } from './own-scripts/inject-script.decorator.js';
export { ScriptService, type ScriptFunction, type ScriptInput } from './own-scripts/script.service.js';
export type { ScriptModuleOptions } from './own-scripts/script.options.js';
export { UndeclaredKeyError } from './own-scripts/script.errors.js';

export {
  ValueService,
  type CompareAndDeleteResult,
  type CompareAndSetResult,
} from './values/value.service.js';
export type { Expiry, ValueOptions, ValueWriteOptions } from './values/value.options.js';

export {
  AuditedHashService,
  type AuditEntry,
  type AuditHistory,
} from './audited-hashes/audited-hash.service.js';
export type { AuditHistoryOptions, AuditOptions } from './audited-hashes/audited-hash.options.js';
export { NotAnAuditLogError } from './audited-hashes/audited-hash.errors.js';

export { ShadowKeyService, type ReplaceResult } from './shadow-keys/shadow-key.service.js';
export type { ReplaceOptions, ShadowProgress } from './shadow-keys/shadow-key.options.js';
export type { ShadowItem, ShadowSource } from './shadow-keys/shadow-source.js';
export type { ShadowType } from './shadow-keys/shadow-type.js';
export type { ShadowEntry, ShadowValue, ShadowWriter } from './shadow-keys/shadow-writer.js';
export { ShadowBuildEndedError, ShadowEmptyError, ShadowLostError } from './shadow-keys/shadow-key.errors.js';

export { AtomicRedisEvents, type AtomicRedisEventListener } from './observability/events.js';
export type {
  AtomicRedisEvent,
  IdempotencyDuplicateEvent,
  IdempotencyRunEvent,
  IdempotencyClaimFailedEvent,
  IdempotencyRanUnprotectedEvent,
  LeaseLostEvent,
  OccurrenceEvent,
  OperationEvent,
  OperationType,
  OutcomeResolvedEvent,
  PoolWaitEvent,
  QueueProcessEvent,
  StepsUnusedEvent,
  TerminalEvent,
  TransactionEvent,
} from './observability/event-types.js';
export type {
  JobSpan,
  OperationSpan,
  Telemetry,
  TelemetryReporter,
  TelemetrySource,
} from './observability/telemetry.js';

export type { AtomicRedisStatus, StatusOptions } from './atomic-redis.status.js';
export type { PasswordSource, TemporaryPassword, UsernameSource } from './connection/credentials.js';
export type { ServerInfo, ServerRole } from './connection/server-info.js';
export type { ServerStatus } from './connection/server-status.js';
export type { PoolStatus } from './transactions/connection-pools.js';

export { QueueConsumer, type QueueConsumerOptions } from './queues/queue-consumer.decorator.js';
export { InjectQueue } from './queues/inject-queue.decorator.js';
export { defineQueue, type QueueDefinition, type QueueDefinitionOptions } from './queues/queue-definition.js';
export { InvalidPayloadError } from './queues/queue.errors.js';
export type { SchemaIssue, SchemaResult, StandardSchema } from './queues/standard-schema.js';
export { ReliableQueueService } from './queues/reliable-queue.service.js';
export type {
  ConsumeOptions,
  PushOptions,
  QueueCounts,
  ReliableQueue,
  TakeOptions,
} from './queues/reliable-queue.js';
export type { ExtendOptions, QueueJob, RetryOptions } from './queues/queue-job.js';
export type { DeadLetter, DeadLetters, ListOptions } from './queues/dead-letters.js';
export type { JobHandler, RunningConsumer } from './queues/running-consumer.js';
export type { RetryBackOff } from './queues/back-off.js';
export type { QueueCallOptions, QueueModuleOptions, QueueOptions } from './queues/queue.options.js';

export { PermitService, type PermitStatus } from './permits/permit.service.js';
export { WithPermit, type WithPermitOptions } from './permits/with-permit.decorator.js';
export type { Permit, PermitReference } from './leases/permit.js';
export type {
  AcquireOptions,
  LeadOptions,
  PermitModuleOptions,
  TryAcquireOptions,
} from './permits/permit.options.js';
export { PermitUnavailableError } from './permits/permit.errors.js';

export { ListService, type ListEnd, type MoveOptions } from './lists/list.service.js';

export { AtomicRedisExceptionFilter } from './problem-details/atomic-redis-exception.filter.js';
