import {
  Inject,
  Logger,
  Module,
  type DynamicModule,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleDestroy,
  type OnModuleInit,
} from '@nestjs/common';
import { ExternalContextCreator, HttpAdapterHost, ModulesContainer } from '@nestjs/core';
import { DEFAULT_REGISTRATION, OPTIONS, REGISTRATION_NAME } from './atomic-redis.constants.js';
import { ConfigurationError, describe } from './atomic-redis.errors.js';
import { checkWiring, COPY, withAdvice } from './boot-mistakes.js';
import { THIS_COPY } from './method-wrapping/decorator-order.js';
import { ConfigurableModuleClass } from './atomic-redis.module-definition.js';
import { arrangeRoutes, checkIdempotentMethods, spareInterceptors } from './idempotency/boot-check.js';
import { IdempotencyService } from './idempotency/idempotency.service.js';
import type { ResolvedOptions } from './atomic-redis.options.js';
import { checkRateLimits } from './limits/boot-check.js';
import { OperationRegistry } from './idempotency/operation-registry.js';
import { ListService } from './lists/list.service.js';
import { PermitService } from './permits/permit.service.js';
import { DeclaredConsumers } from './queues/declared-consumers.js';
import { ReliableQueueService } from './queues/reliable-queue.service.js';
import { callIfThere } from './method-wrapping/replaced-service.js';
import { setProblemType } from './problem-details/http-exception.js';
import { Deadline } from './runtime/deadline.js';
import { RedisConnection } from './connection/redis-connection.js';
import { WorkInFlight } from './runtime/work-in-flight.js';
import { FeatureModule, type Feature } from './atomic-redis.feature.module.js';
import { ScriptService } from './own-scripts/script.service.js';
import { ShutdownNotice } from './shutdown-notice.js';
import { ShadowKeyService } from './shadow-keys/shadow-key.service.js';
import { hasOptimisticMethods } from './transactions/optimistic-methods.js';
import { TransactionService } from './transactions/transaction.service.js';

/**
 * Makes the services and decorators of this library available.
 *
 * ```ts
 * AtomicRedisModule.forRoot({ connection: 'redis://localhost:6379', namespace: 'shop:' })
 * AtomicRedisModule.forRootAsync({ inject: [ConfigService], useFactory: (config) => ({ connection: config.getOrThrow('REDIS_URL'), namespace: 'shop:' }) })
 * ```
 *
 * The application does not start when an option is wrong (`InvalidArgumentError`), a script of
 * `forFeature` is no Lua or the server too old (`ConfigurationError`), or Redis cannot be reached
 * within `timeoutMs` (`RedisUnavailableError`), unless `lazyConnect` is set.
 */
@Module({})
export class AtomicRedisModule
  extends ConfigurableModuleClass
  implements OnModuleInit, OnApplicationBootstrap, OnModuleDestroy, OnApplicationShutdown
{
  /** @internal */
  static readonly [COPY] = THIS_COPY;

  private readonly logger = new Logger(AtomicRedisModule.name);
  private readonly shutdownNotice: ShutdownNotice;

  /** @internal */
  constructor(
    @Inject(OPTIONS) private readonly options: ResolvedOptions,
    @Inject(REGISTRATION_NAME) private readonly name: string,
    private readonly connection: RedisConnection,
    private readonly work: WorkInFlight,
    private readonly transactions: TransactionService,
    private readonly idempotency: IdempotencyService,
    private readonly scripts: ScriptService,
    private readonly shadowKeys: ShadowKeyService,
    private readonly queues: ReliableQueueService,
    private readonly lists: ListService,
    private readonly permits: PermitService,
    private readonly consumers: DeclaredConsumers,
    private readonly modules: ModulesContainer,
    private readonly adapterHost: HttpAdapterHost,
    private readonly creator: ExternalContextCreator,
  ) {
    super();
    // Here, since Nest makes handlers of methods once all providers exist, and before any hook.
    arrangeRoutes(modules);
    this.shutdownNotice = new ShutdownNotice(modules, adapterHost, consumers);
  }

  /**
   * Makes scripts injectable by `@InjectScript(script)`, and queues by `@InjectQueue(definition)`.
   * Scripts are checked while the application starts, and loaded on every connect. The registration
   * must be visible to the importing module, as a global one is.
   *
   * @param name of the registration. Default: the unnamed one.
   * @throws ConfigurationError for what is neither a script nor a queue
   */
  static forFeature(features: readonly Feature[], name?: string): DynamicModule {
    return FeatureModule.of(features, name);
  }

  /** Arranges the routes. Called by Nest, which asks for middleware here; it gets none. */
  configure(): void {
    spareInterceptors(this.modules, this.creator);
  }

  /** Connects, checks the server, and refuses decorators that cannot work. Called by Nest. */
  async onModuleInit(): Promise<void> {
    const registrations = this.registrations();
    try {
      if (registrations.filter(({ name }) => name === this.name).length > 1) {
        throw new ConfigurationError(
          `AtomicRedisModule is registered twice as ${describe(this.name)}. It is global: import it once. For two Redis, give one a name: forRoot({ name: 'orders', … })`,
        );
      }
      this.setProblemType();
      if (registrations[0] === this) checkWiring(this.modules);
      checkRateLimits(this.modules, this.name);
      checkIdempotentMethods(this.modules, this.name, this.operations());
      this.consumers.find();
      if (!this.options.lazyConnect) {
        const deadline = Deadline.in(this.options.timeoutMs);
        await this.connection.verifyServers(deadline);
        await callIfThere(this.transactions, 'verify', () => hasOptimisticMethods(this.modules, this.name));
        await callIfThere(this.scripts, 'verify', deadline);
      }
    } catch (error) {
      // The application will not start, so no shutdown hook will run.
      await Promise.all(registrations.map(({ connection }) => connection.close()));
      throw withAdvice(error);
    }
  }

  /**
   * Starts the queue consumers, and warns if nothing would shut the application down in order.
   * Called by Nest.
   */
  onApplicationBootstrap(): void {
    this.consumers.start();
    if (this.registrations()[0] === this) this.shutdownNotice.begin();
  }

  /**
   * Jobs in hand and leaders may need what others close in `onApplicationShutdown`: they end before
   * it, or go back.
   */
  async onModuleDestroy(): Promise<void> {
    this.shutdownNotice.end();
    const { shutdownTimeoutMs } = this.options;
    await Promise.all([
      callIfThere(this.queues, 'stopConsumers', shutdownTimeoutMs),
      callIfThere(this.permits, 'stopLeaders', shutdownTimeoutMs),
    ]);
  }

  /**
   * Runs after the HTTP server has closed: what is still in flight is given `shutdownTimeoutMs`,
   * then the connections close.
   */
  async onApplicationShutdown(): Promise<void> {
    await callIfThere(this.lists, 'close');
    await callIfThere(this.permits, 'endWaits');
    await callIfThere(this.queues, 'close');
    if (!(await this.work.drain(this.options.shutdownTimeoutMs))) {
      this.logger.warn(
        `Operations were still in flight after ${this.options.shutdownTimeoutMs} ms; closing their connections`,
      );
    }
    for (const service of [this.idempotency, this.permits, this.shadowKeys, this.transactions])
      await callIfThere(service, 'close');
    await this.connection.close();
  }

  /** None where a test has replaced the service. */
  private operations(): OperationRegistry {
    const { operations } = this.idempotency as Partial<IdempotencyService>;
    return operations ?? new OperationRegistry();
  }

  private setProblemType(): void {
    // None where the application serves no HTTP.
    const platform: unknown = (
      this.adapterHost.httpAdapter as HttpAdapterHost['httpAdapter'] | undefined
    )?.getInstance();
    const registrations = this.registrations();
    const [chosen] = [...registrations.filter(({ name }) => name === DEFAULT_REGISTRATION), ...registrations];
    if (chosen === this && platform) setProblemType(platform, this.options.problemType);
  }

  /** All of this application. */
  private registrations(): AtomicRedisModule[] {
    return [...this.modules.values()].flatMap(({ instance }) =>
      (instance as unknown) instanceof AtomicRedisModule ? [instance as unknown as AtomicRedisModule] : [],
    );
  }
}
