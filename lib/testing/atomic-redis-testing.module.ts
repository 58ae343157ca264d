import { Global, Module, type DynamicModule, type Provider, type Type } from '@nestjs/common';
import { ExternalContextCreator, ModulesContainer } from '@nestjs/core';
import {
  DEFAULT_REGISTRATION,
  getAtomicRedisToken,
  getRunToken,
  getTransactionToken,
} from '../atomic-redis.constants.js';
import { ConfigurationError } from '../atomic-redis.errors.js';
import { SERVICES, type AtomicRedisModuleExtras } from '../atomic-redis.module-definition.js';
import { AtomicRedis } from '../atomic-redis.js';
import { StatusReader } from '../atomic-redis.status.js';
import { CounterService } from '../counters/counter.service.js';
import { arrangeRoutes, spareInterceptors } from '../idempotency/boot-check.js';
import { IdempotencyService } from '../idempotency/idempotency.service.js';
import { STAND_IN, type StandIn, type StandInFacts } from '../method-wrapping/stand-in.js';
import type { MethodCall, MethodSite } from '../method-wrapping/method-site.js';
import { AtomicRedisEvents } from '../observability/events.js';
import type { Permit } from '../leases/permit.js';
import { PermitService } from '../permits/permit.service.js';
import type { QueueDefinition } from '../queues/queue-definition.js';
import { DeadLetters } from '../queues/dead-letters.js';
import { ReliableQueue } from '../queues/reliable-queue.js';
import { ReliableQueueService } from '../queues/reliable-queue.service.js';
import type { Script } from '../scripting/script.js';
import { ScriptService } from '../own-scripts/script.service.js';
import type { TransactionOptions } from '../transactions/transaction.options.js';
import { TransactionService } from '../transactions/transaction.service.js';
import { AtomicRedisOutcomes } from './method-outcomes.js';
import { stubOf } from './service-stub.js';
import { StubRun } from './stub-run.js';
import { StubTransaction } from './stub-transaction.js';

type Work<Argument> = (argument: Argument) => unknown;

const queueStub = (name: string): ReliableQueue =>
  stubOf(ReliableQueue, { name, deadLetters: stubOf(DeadLetters, {}, 'queue.deadLetters') }, 'queue');

const stubPermit = (name: string): Permit => ({
  name,
  slot: 0,
  fence: Date.now(),
  signal: new AbortController().signal,
  release: () => Promise.resolve(true),
});

/** Services whose methods run work of the caller's have it run as it is. */
function answersOf(service: unknown, transaction: StubTransaction, run: StubRun): Record<string, unknown> {
  switch (service) {
    case TransactionService:
      return {
        run: (_keys: unknown, work: Work<StubTransaction>, options?: TransactionOptions) =>
          transaction.run(() => work(transaction), 0, options?.completesJob),
      };
    case IdempotencyService:
      return {
        run: async (_key: unknown, work: Work<StubRun>) => await work(run),
      };
    case CounterService:
      return {
        run: async (_key: unknown, by: number | bigint, work: Work<object>) =>
          await work({ value: by, applied: by, limited: false }),
      };
    case PermitService: {
      const holding = async (name: string, work: Work<Permit>) => await work(stubPermit(name));
      const acquire = (name: string) => Promise.resolve(stubPermit(name));
      return {
        acquire,
        tryAcquire: acquire,
        withPermit: holding,
        lead: holding,
        current: () => stubPermit('current'),
      };
    }
    case ReliableQueueService: {
      const queues = new Map<string, ReliableQueue>();
      const get = (given: string | QueueDefinition): ReliableQueue => {
        const name = typeof given === 'string' ? given : given.name;
        const queue = queues.get(name) ?? queueStub(name);
        queues.set(name, queue);
        return queue;
      };
      return { get };
    }
    case ScriptService:
      return {
        prepare:
          ({ name }: Script) =>
          () =>
            Promise.reject(
              new ConfigurationError(
                `The script ${name} has no answer in this test. Give it one: .overrideProvider(getScriptToken(…)).useValue(jest.fn())`,
              ),
            ),
      };
    default:
      return {};
  }
}

const standInFor = (service: Type<object>, transaction: StubTransaction, run: StubRun): object =>
  service === AtomicRedisEvents
    ? new AtomicRedisEvents()
    : stubOf(service, answersOf(service, transaction, run));

const stubProviders: Provider[] = [...SERVICES, StatusReader].map((service: Type<object>) => ({
  provide: service,
  useFactory: (transaction: StubTransaction, run: StubRun) => standInFor(service, transaction, run),
  inject: [StubTransaction, StubRun],
}));

/** The façade that decorated methods are given: they are run here, not by its services. */
class PassThroughAtomicRedis extends AtomicRedis implements StandIn {
  /** Set by the provider. */
  outcomes!: AtomicRedisOutcomes;

  [STAND_IN](site: MethodSite, call: MethodCall, facts: StandInFacts): Promise<unknown> {
    return this.outcomes.call(site, call, facts);
  }
}

/** The services that the façade is made of. */
const PARTS = Reflect.getMetadata('design:paramtypes', AtomicRedis) as Type<object>[];

type Parts = ConstructorParameters<typeof AtomicRedis>;

const facadeOf = (outcomes: AtomicRedisOutcomes, parts: readonly object[]): AtomicRedis =>
  Object.assign(new PassThroughAtomicRedis(...(parts as unknown as Parts)), { outcomes });

/**
 * Takes the place of `AtomicRedisModule` in unit tests, without Redis: decorated methods run as
 * they are, the services are stubs that take the test runner's mocks, and `AtomicRedisOutcomes`
 * chooses other outcomes. It protects nothing.
 *
 * ```ts
 * const module = await Test.createTestingModule({ imports: [AtomicRedisTestingModule], controllers: [OrdersController] }).compile();
 * ```
 *
 * @throws ConfigurationError at boot where NODE_ENV is `production`
 */
@Global()
@Module({
  providers: [
    StubTransaction,
    StubRun,
    {
      provide: AtomicRedisOutcomes,
      useFactory: (transaction: StubTransaction, run: StubRun) => new AtomicRedisOutcomes(transaction, run),
      inject: [StubTransaction, StubRun],
    },
    ...stubProviders,
    {
      provide: AtomicRedis,
      useFactory: (outcomes: AtomicRedisOutcomes, ...parts: object[]) => facadeOf(outcomes, parts),
      inject: [AtomicRedisOutcomes, ...PARTS],
    },
    { provide: getAtomicRedisToken(), useExisting: AtomicRedis },
    { provide: getTransactionToken(), useExisting: StubTransaction },
    { provide: getRunToken(), useExisting: StubRun },
  ],
  exports: [
    StubTransaction,
    StubRun,
    AtomicRedisOutcomes,
    AtomicRedis,
    ...SERVICES,
    getAtomicRedisToken(),
    getTransactionToken(),
    getRunToken(),
  ],
})
export class AtomicRedisTestingModule {
  /** @internal */
  constructor(
    private readonly modules: ModulesContainer,
    private readonly creator: ExternalContextCreator,
  ) {
    if (process.env['NODE_ENV'] === 'production') {
      throw new ConfigurationError(
        'AtomicRedisTestingModule protects nothing, so it does not start where NODE_ENV is production. Import AtomicRedisModule.forRoot({ … }) there',
      );
    }
    arrangeRoutes(modules);
  }

  /** Arranges the routes, as the module itself does. Called by Nest. */
  configure(): void {
    spareInterceptors(this.modules, this.creator);
  }

  /**
   * Stands for a registration with a name, beside the module itself: `imports:
   * [AtomicRedisTestingModule, AtomicRedisTestingModule.named('orders')]`.
   */
  static named(name: NonNullable<AtomicRedisModuleExtras['name']>): DynamicModule {
    if (name === DEFAULT_REGISTRATION) return { module: AtomicRedisTestingModule };
    return {
      module: NamedTestingModule,
      imports: [AtomicRedisTestingModule],
      global: true,
      providers: [
        {
          // Its services are its own, and are found by the façade only, as those of a real
          // registration.
          provide: getAtomicRedisToken(name),
          useFactory: (outcomes: AtomicRedisOutcomes, transaction: StubTransaction, run: StubRun) =>
            facadeOf(
              outcomes,
              PARTS.map((part) => standInFor(part, transaction, run)),
            ),
          inject: [AtomicRedisOutcomes, StubTransaction, StubRun],
        },
        { provide: getTransactionToken(name), useExisting: StubTransaction },
        { provide: getRunToken(name), useExisting: StubRun },
      ],
      exports: [getAtomicRedisToken(name), getTransactionToken(name), getRunToken(name)],
    };
  }
}

/** A registration with a name. Dynamic modules of one class differ by their providers. */
@Module({})
class NamedTestingModule {}
