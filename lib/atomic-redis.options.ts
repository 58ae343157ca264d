import { InvalidArgumentError } from './atomic-redis.errors.js';
import * as check from './atomic-redis.validation.js';
import { withDefaults } from './atomic-redis.validation.js';
import { checkSource, type PasswordSource, type UsernameSource } from './connection/credentials.js';
import { checkConnectionOption } from './connection/connection-option.js';
import { copyDurability, type DurabilityOptions } from './connection/durability.js';
import {
  resolveDefaults,
  serviceDefaultChecks,
  type ResolvedDefaults,
  type ServiceDefaults,
} from './operations/operation.options.js';
import {
  counterOptionChecks,
  counterDefaults,
  type CounterModuleOptions,
} from './counters/counter.options.js';
import { limitDefaults, limitOptionChecks, type LimitModuleOptions } from './limits/limit.options.js';
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
   * Address of Redis: a URL, ioredis's `RedisOptions` (TLS, Sentinel), `{ nodes, options }` for a
   * Cluster, or an existing ioredis client. The library copies its settings and leaves the client
   * itself alone.
   */
  connection: ConnectionOption;
  /**
   * Signs in with this in place of what `connection` has: text, or a function that is asked for
   * each connection that is opened, at most once a second, and once more when the server refuses
   * the answer. For passwords that are rotated and tokens that end; also for an existing client.
   */
  username?: UsernameSource;
  /**
   * As `username`. A function may return `{ password, expiresAt }`: connections are replaced before
   * that time.
   */
  password?: PasswordSource;
  /**
   * Names this application on Redis, as `shop:`. Stands in front of every key the library adds; no
   * braces. It must be the application's own, and the same in all its processes and versions: two
   * applications that share it would answer each other's idempotent calls.
   */
  namespace: string;
  /** Time for one operation on Redis, connecting included, in milliseconds. @default 5000 */
  timeoutMs?: number;
  /**
   * Default of `deduplicate` for the calls of every service that has it.
   * @default true
   */
  deduplicate?: boolean;
  /**
   * Wait until replicas have what was changed, for the calls of every service that can. A service's
   * own counts more, a call's most; `false` does not wait there. Default: no wait.
   */
  durability?: DurabilityOptions;
  /**
   * Start the application before Redis is reachable; the first operation connects. @default false
   */
  lazyConnect?: boolean;
  /**
   * Time that shutdown waits for jobs in hand, and then again for operations in flight, in
   * milliseconds. Then it closes the connections.
   * @default 10000
   */
  shutdownTimeoutMs?: number;
  /**
   * Receiver of every operation: `openTelemetry()` of `nestjs-atomic-redis/opentelemetry`. Default:
   * nothing.
   */
  telemetry?: Telemetry;
  /**
   * Beginning of the `type` of problem details: a URL, to which the error's code is added as the
   * fragment. `about:blank` leaves the code out.
   * @default the errors page of this package's documentation
   */
  problemType?: string;
  /** Defaults of transactions, and how many connections they have. */
  transactions?: TransactionModuleOptions;
  /** Defaults of idempotent runs. */
  idempotency?: IdempotencyModuleOptions;
  /** Batches of counters, and the time in which an add can be undone. */
  counters?: CounterModuleOptions;
  /** Batches of limits. */
  limits?: LimitModuleOptions;
  /** Checks of the application's own scripts. */
  scripts?: ScriptModuleOptions;
  /** Defaults of queues. */
  queues?: QueueModuleOptions;
  /** Defaults of permits. */
  permits?: PermitModuleOptions;
  /** Defaults of calls of `ValueService`. */
  values?: ServiceDefaults;
  /** Defaults of calls of `AuditedHashService`. */
  auditedHashes?: ServiceDefaults;
  /** Defaults of calls of `TransferService`. Across slots, answers are always kept. */
  transfers?: ServiceDefaults;
  /** Defaults of calls of `ReservationService`. */
  reservations?: ServiceDefaults;
  /** Defaults of calls of `ListService`, which wait for no replicas. */
  lists?: Omit<ServiceDefaults, 'durability'>;
  /** Defaults of calls of `ShadowKeyService`; `deduplicate` is that of `rollback`. */
  shadowKeys?: ServiceDefaults;
}

/** The services whose calls have these defaults, as the façade names them. */
const SERVICES = [
  'counters',
  'limits',
  'scripts',
  'queues',
  'values',
  'auditedHashes',
  'transfers',
  'reservations',
  'lists',
  'shadowKeys',
] as const;

type Service = (typeof SERVICES)[number];

export interface ResolvedOptions extends Required<
  Pick<
    AtomicRedisOptions,
    'connection' | 'namespace' | 'timeoutMs' | 'lazyConnect' | 'shutdownTimeoutMs' | 'problemType'
  >
> {
  /** The defaults of each service, with the module's where it has none. */
  services: Readonly<Record<Service, ResolvedDefaults>>;
  username: UsernameSource | undefined;
  password: PasswordSource | undefined;
  telemetry: Telemetry | undefined;
  transactions: ResolvedTransactionModuleOptions;
  idempotency: ResolvedIdempotencyOptions;
  counters: typeof counterDefaults;
  limits: typeof limitDefaults;
  scripts: ReturnType<typeof scriptDefaults>;
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

const checkDefaults = check.options(serviceDefaultChecks);

const checkModuleOptions = check.options(
  {
    // Has a check of its own.
    connection: () => undefined,
    username: checkSource,
    password: checkSource,
    namespace: checkNamespace,
    ...serviceDefaultChecks,
    lazyConnect: check.boolean,
    shutdownTimeoutMs: check.waitMs(0),
    problemType: check.nonEmptyString,
    telemetry: check.methods('attach'),
    transactions: check.options(transactionOptionChecks),
    idempotency: check.options(idempotencyOptionChecks),
    counters: check.options(counterOptionChecks),
    limits: check.options(limitOptionChecks),
    scripts: check.options(scriptOptionChecks),
    queues: check.options(queueModuleOptionChecks),
    permits: check.options(permitOptionChecks),
    values: checkDefaults,
    auditedHashes: checkDefaults,
    transfers: checkDefaults,
    reservations: checkDefaults,
    lists: check.options({ timeoutMs: serviceDefaultChecks.timeoutMs, deduplicate: check.boolean }),
    shadowKeys: checkDefaults,
  } satisfies Record<keyof AtomicRedisOptions, check.Check>,
  'namespace',
);

/** @throws InvalidArgumentError naming the option, what it may be, and the value received */
export function resolveOptions(given: AtomicRedisOptions): ResolvedOptions {
  checkModuleOptions('forRoot', given);
  checkConnectionOption(given.connection);
  const { timeoutMs = 5_000, deduplicate = true } = given;
  const all = { timeoutMs, deduplicate, durability: copyDurability(given.durability) };
  return {
    connection: given.connection,
    username: given.username,
    password: given.password,
    namespace: given.namespace,
    timeoutMs,
    services: Object.fromEntries(
      SERVICES.map((name) => [name, resolveDefaults(given[name], all)]),
    ) as ResolvedOptions['services'],
    lazyConnect: given.lazyConnect ?? false,
    shutdownTimeoutMs: given.shutdownTimeoutMs ?? 10_000,
    problemType: given.problemType ?? ERRORS_PAGE,
    telemetry: given.telemetry,
    transactions: resolveTransactionModuleOptions(given.transactions, all.durability),
    idempotency: resolveIdempotencyOptions(given.idempotency, all.durability),
    counters: withDefaults(counterDefaults, given.counters),
    limits: withDefaults(limitDefaults, given.limits),
    scripts: withDefaults(scriptDefaults(), given.scripts),
    queues: resolveQueueOptions(given.queues),
    permits: { timeoutMs, ...withDefaults(permitDefaults, given.permits) },
  };
}
