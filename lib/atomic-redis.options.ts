import { InvalidArgumentError } from './atomic-redis.errors.js';
import * as check from './atomic-redis.validation.js';
import { withDefaults } from './atomic-redis.validation.js';
import { checkSource, type PasswordSource, type UsernameSource } from './connection/credentials.js';
import { checkConnectionOption } from './connection/connection-option.js';
import {
  counterOptionChecks,
  counterDefaults,
  type CounterModuleOptions,
} from './counters/counter.options.js';
import {
  idempotencyOptionChecks,
  resolveIdempotencyOptions,
  type IdempotencyModuleOptions,
  type ResolvedIdempotencyOptions,
} from './idempotency/idempotency.options.js';
import {
  queueModuleOptionChecks,
  resolveQueueOptions,
  type QueueModuleOptions,
  type ResolvedQueueOptions,
} from './queues/queue.options.js';
import type { Telemetry } from './observability/telemetry.js';
import { ERRORS_PAGE } from './problem-details/problem.js';
import type { ConnectionOption } from './connection/client.js';
import {
  scriptDefaults,
  scriptOptionChecks,
  type ScriptModuleOptions,
} from './own-scripts/script.options.js';
import { permitDefaults, permitOptionChecks, type PermitModuleOptions } from './permits/permit.options.js';
import {
  resolveTransactionModuleOptions,
  transactionOptionChecks,
  type ResolvedTransactionModuleOptions,
  type TransactionModuleOptions,
} from './transactions/transaction.options.js';

/** Options that `AtomicRedisModule.forRoot` takes and a `forRootAsync` factory returns. */
export interface AtomicRedisOptions {
  /**
   * Address of Redis: a URL, ioredis's `RedisOptions` (TLS, Sentinel), `{ nodes, options }` for a Cluster, or an existing
   * ioredis client. The library copies its settings and leaves the client itself alone.
   */
  connection: ConnectionOption;
  /**
   * Signs in with this in place of what `connection` has: text, or a function that is asked for each connection that is opened, at most once a second, and once more
   * when the server refuses the answer. For passwords that are rotated and tokens that end; also for an existing client.
   */
  username?: UsernameSource;
  /** As `username`. A function may return `{ password, expiresAt }`: connections are replaced before that time. */
  password?: PasswordSource;
  /**
   * Names this application on Redis, as `shop:`. Stands in front of every key the library adds; no braces. It must be the application's own, and the same in all
   * its processes and versions: two applications that share it would answer each other's idempotent calls.
   */
  namespace: string;
  /** Time for one operation on Redis, connecting included, in milliseconds. @default 5000 */
  timeoutMs?: number;
  /** Start the application before Redis is reachable; the first operation connects. @default false */
  lazyConnect?: boolean;
  /**
   * Time that shutdown waits for jobs in hand, and then again for operations in flight, in milliseconds. Then it closes the connections.
   * @default 10000
   */
  shutdownTimeoutMs?: number;
  /** Receiver of every operation: `openTelemetry()` of `nestjs-atomic-redis/opentelemetry`. Default: nothing. */
  telemetry?: Telemetry;
  /**
   * Beginning of the `type` of problem details: a URL, to which the error's code is added as the fragment. `about:blank` leaves the code out.
   * @default the errors page of this package's documentation
   */
  problemType?: string;
  /** Defaults of transactions, and how many connections they have. */
  transactions?: TransactionModuleOptions;
  /** Defaults of idempotent runs. */
  idempotency?: IdempotencyModuleOptions;
  /** Batches of counters, and the time in which an add can be undone. */
  counters?: CounterModuleOptions;
  /** Checks of the application's own scripts. */
  scripts?: ScriptModuleOptions;
  /** Defaults of queues. */
  queues?: QueueModuleOptions;
  /** Defaults of permits. */
  permits?: PermitModuleOptions;
}

export interface ResolvedOptions extends Required<
  Omit<AtomicRedisOptions, 'telemetry' | 'username' | 'password'>
> {
  username: UsernameSource | undefined;
  password: PasswordSource | undefined;
  telemetry: Telemetry | undefined;
  transactions: ResolvedTransactionModuleOptions;
  idempotency: ResolvedIdempotencyOptions;
  counters: Required<CounterModuleOptions>;
  scripts: Required<ScriptModuleOptions>;
  queues: ResolvedQueueOptions;
  permits: Required<PermitModuleOptions>;
}

/** Redis has no name for an application, and a default would make all applications one. */
function checkNamespace(path: string, value: unknown): void {
  if (check.isText(value) && !/[{}]/.test(value)) return;
  throw new InvalidArgumentError(
    path,
    "a name of your application's own that stands in front of the keys the library adds, without braces; write for example namespace: 'shop:'",
    value,
  );
}

const checkModuleOptions = check.options(
  {
    // Has a check of its own.
    connection: () => undefined,
    username: checkSource,
    password: checkSource,
    namespace: checkNamespace,
    timeoutMs: check.waitMs(),
    lazyConnect: check.boolean,
    shutdownTimeoutMs: check.waitMs(0),
    problemType: check.nonEmptyString,
    telemetry: check.methods('attach'),
    transactions: check.options(transactionOptionChecks),
    idempotency: check.options(idempotencyOptionChecks),
    counters: check.options(counterOptionChecks),
    scripts: check.options(scriptOptionChecks),
    queues: check.options(queueModuleOptionChecks),
    permits: check.options(permitOptionChecks),
  },
  'namespace',
);

/** @throws InvalidArgumentError naming the option, what it may be, and the value received */
export function resolveOptions(given: AtomicRedisOptions): ResolvedOptions {
  checkModuleOptions('forRoot', given);
  checkConnectionOption(given.connection);
  return {
    connection: given.connection,
    username: given.username,
    password: given.password,
    namespace: given.namespace,
    timeoutMs: given.timeoutMs ?? 5_000,
    lazyConnect: given.lazyConnect ?? false,
    shutdownTimeoutMs: given.shutdownTimeoutMs ?? 10_000,
    problemType: given.problemType ?? ERRORS_PAGE,
    telemetry: given.telemetry,
    transactions: resolveTransactionModuleOptions(given.transactions),
    idempotency: resolveIdempotencyOptions(given.idempotency),
    counters: withDefaults(counterDefaults, given.counters),
    scripts: withDefaults(scriptDefaults(), given.scripts),
    queues: resolveQueueOptions(given.queues),
    permits: withDefaults(permitDefaults, given.permits),
  };
}
