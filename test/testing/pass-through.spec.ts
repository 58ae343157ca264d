import { Controller, Injectable, Module, Post, type INestApplication } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import {
  AtomicCounter,
  AtomicRedis,
  AtomicRedisEvents,
  AtomicRedisModule,
  ConfigurationError,
  CounterLimitError,
  CounterService,
  CounterValue,
  defineQueue,
  Idempotent,
  IdempotencyInFlightError,
  IdempotencyService,
  InjectAtomicRedis,
  InjectQueue,
  InjectTransaction,
  InvalidArgumentError,
  OptimisticRetry,
  QueueConsumer,
  PermitService,
  PermitUnavailableError,
  RedisUnavailableError,
  ReliableQueueService,
  Transaction,
  TransactionConflictError,
  TransactionService,
  WithPermit,
  type CounterResult,
  type QueueJob,
  type ReliableQueue,
} from '../../lib/index.js';
import { SERVICES } from '../../lib/atomic-redis.module-definition.js';
import { AtomicRedisOutcomes, AtomicRedisTestingModule, testJob } from '../../lib/testing/index.js';

@Controller('orders')
class OrdersController {
  @Post()
  @Idempotent()
  async create(): Promise<{ id: number }> {
    return { id: 1 };
  }
}

@Injectable()
class Stock {
  @AtomicCounter({ key: (sku: string) => `stock:{${sku}}`, by: -2, min: 0 })
  async take(sku: string, @CounterValue() count?: CounterResult): Promise<string> {
    return `${sku}: ${count?.value}`;
  }
}

@Injectable()
class Reports {
  @WithPermit({ name: (id: string) => `report:{${id}}` })
  async build(id: string): Promise<string> {
    return `built ${id}`;
  }
}

@Injectable()
class Accounts {
  runs = 0;

  constructor(
    @InjectTransaction() private readonly tx: Transaction,
    private readonly transactions: TransactionService,
  ) {}

  @OptimisticRetry({ watch: (id: string) => `account:{${id}}`, maxAttempts: 3 })
  async withdraw(id: string, amount: number): Promise<number> {
    this.runs++;
    const balance = Number(await this.tx.read.get(`account:{${id}}`));
    if (balance < amount) throw new RangeError('insufficient funds');
    this.tx.write.set(`account:{${id}}`, balance - amount);
    return this.tx.attempt;
  }

  byService(id: string): Promise<string | null> {
    return this.transactions.run([id], (tx) => tx.read.get(id));
  }
}

const orderQueue = defineQueue<{ sku: string }>('orders');
const mailQueue = defineQueue<string>('mails');

@Injectable()
class Shipping {
  constructor(
    @InjectTransaction() private readonly tx: Transaction,
    @InjectQueue(mailQueue) private readonly mails: ReliableQueue<string>,
    private readonly transactions: TransactionService,
  ) {}

  @QueueConsumer(orderQueue)
  @OptimisticRetry({
    watch: (job: QueueJob<{ sku: string }>) => `stock:${job.payload.sku}`,
    completesJob: (job: QueueJob<{ sku: string }>) => job,
  })
  async ship(job: QueueJob<{ sku: string }>): Promise<string> {
    if (job.payload.sku === '') throw new RangeError('no sku');
    this.tx.write.decr(`stock:${job.payload.sku}`);
    return this.tx.push(this.mails, job.payload.sku, { delayMs: 5 });
  }

  byService(job: QueueJob): Promise<void> {
    return this.transactions.run(['k'], (tx) => void tx.push(this.mails, 'by service'), {
      completesJob: job,
    });
  }
}

@Injectable()
class Jobs {
  constructor(
    @InjectAtomicRedis('jobs') readonly redis: AtomicRedis,
    readonly queues: ReliableQueueService,
  ) {}

  @Idempotent({ operation: 'jobs.run', key: (id: string) => id, name: 'jobs' })
  async run(id: string): Promise<string> {
    return `ran ${id}`;
  }
}

const NOBODY = 'redis://127.0.0.1:1';

describe('AtomicRedisTestingModule', () => {
  let module: TestingModule;
  let outcomes: AtomicRedisOutcomes;

  beforeEach(async () => {
    module = await Test.createTestingModule({
      imports: [AtomicRedisTestingModule, AtomicRedisTestingModule.named('jobs')],
      controllers: [OrdersController],
      providers: [Stock, Reports, Accounts, Jobs],
    }).compile();
    await module.init();
    outcomes = module.get(AtomicRedisOutcomes);
  });

  afterEach(() => module.close());

  it('[TEST-1] runs decorated methods without Redis', async () => {
    expect(await module.get(OrdersController).create()).toEqual({ id: 1 });
    expect(await module.get(Stock).take('tea')).toBe('tea: -2');
    expect(await module.get(Jobs).run('a')).toBe('ran a');
    outcomes.onRead('get', 'account:{1}').returns('10');
    expect(await module.get(Accounts).withdraw('1', 4)).toBe(1);
    expect(outcomes.writes).toEqual([['set', 'account:{1}', 6]]);
  });

  it('[TEST-2] replays, or finds the first call in progress, as the test sets it', async () => {
    const controller = module.get(OrdersController);
    const create = outcomes.on(OrdersController, 'create');
    create.replays({ id: 7 });
    expect(await controller.create()).toEqual({ id: 7 });
    create.inFlight();
    await expect(controller.create()).rejects.toThrow(IdempotencyInFlightError);
    create.runs();
    expect(await controller.create()).toEqual({ id: 1 });
  });

  it('[TEST-2] answers as over HTTP', async () => {
    const app: INestApplication = module.createNestApplication({ logger: false });
    await app.listen(0, '127.0.0.1');
    try {
      const url = `${await app.getUrl()}/orders`;
      expect(await (await fetch(url, { method: 'POST' })).json()).toEqual({ id: 1 });
      outcomes.on(OrdersController, 'create').inFlight();
      const refused = await fetch(url, { method: 'POST' });
      expect(refused.status).toBe(409);
      expect(refused.headers.get('retry-after')).toBe('1');
    } finally {
      await app.close();
    }
  });

  it('[TEST-2] runs under a permit, or is refused one, as the test sets it', async () => {
    const reports = module.get(Reports);
    expect(await reports.build('7')).toBe('built 7');
    outcomes.on(Reports, 'build').permitTaken();
    await expect(reports.build('7')).rejects.toThrow(PermitUnavailableError);
    outcomes.reset();
    expect(await reports.build('8')).toBe('built 8');
    expect(() => outcomes.on(Stock, 'take').permitTaken()).toThrow(InvalidArgumentError);
    const permit = await module.get(PermitService).acquire('p');
    expect(await permit.release()).toBe(true);
  });

  it('[TEST-2] counts, or is at its limit, as the test sets it', async () => {
    const stock = module.get(Stock);
    outcomes.on(Stock, 'take').counts({ value: 3, applied: -2, limited: false });
    expect(await stock.take('tea')).toBe('tea: 3');
    outcomes.on(Stock, 'take').limitReached();
    await expect(stock.take('tea')).rejects.toThrow(CounterLimitError);
    outcomes.reset();
    expect(await stock.take('tea')).toBe('tea: -2');
  });

  it('[TEST-2] repeats a transaction for each conflict, and keeps the writes of its last run', async () => {
    const accounts = module.get(Accounts);
    outcomes.onRead('get', 'account:{1}').returns('10');
    outcomes.on(Accounts, 'withdraw').conflicts(2);
    expect(await accounts.withdraw('1', 4)).toBe(3);
    expect(accounts.runs).toBe(3);
    expect(outcomes.writes).toEqual([['set', 'account:{1}', 6]]);
    outcomes.on(Accounts, 'withdraw').conflicts(3);
    await expect(accounts.withdraw('1', 4)).rejects.toThrow(TransactionConflictError);
  });

  it('[TEST-2] refuses every decorated method while Redis is unavailable', async () => {
    for (const [type, method] of [
      [OrdersController, 'create'],
      [Stock, 'take'],
      [Accounts, 'withdraw'],
      [Jobs, 'run'],
    ] as const)
      outcomes.on<object>(type, method as never).unavailable();
    await expect(module.get(OrdersController).create()).rejects.toThrow(RedisUnavailableError);
    await expect(module.get(Stock).take('tea')).rejects.toThrow(RedisUnavailableError);
    await expect(module.get(Accounts).withdraw('1', 4)).rejects.toThrow(RedisUnavailableError);
    await expect(module.get(Jobs).run('a')).rejects.toThrow(RedisUnavailableError);
    expect(module.get(Accounts).runs).toBe(0);
  });

  it('[TEST-2] writes nothing when the method throws, and passes its error on', async () => {
    outcomes.onRead('get', 'account:{1}').returns('1');
    await expect(module.get(Accounts).withdraw('1', 4)).rejects.toThrow(RangeError);
    expect(outcomes.writes).toEqual([]);
  });

  it('[TEST-3] tells how to set a result for a call without one', async () => {
    await expect(module.get(Accounts).withdraw('1', 4)).rejects.toThrow(
      /tx\.read\.get\("account:\{1\}"\) has no answer .*\.onRead\("get", "account:\{1\}"\)\.returns/,
    );
    await expect(module.get(CounterService).get('n')).rejects.toThrow(
      /CounterService\.get\(\) has no answer .*\.spyOn\(module\.get\(CounterService\), 'get'\)/,
    );
  });

  it('[TEST-3] refuses an outcome that the method cannot have', () => {
    expect(() => outcomes.on(Stock, 'take').replays(1)).toThrow(InvalidArgumentError);
    expect(() => outcomes.on(OrdersController, 'create').conflicts(1)).toThrow(/under @OptimisticRetry\(\)/);
    expect(() => outcomes.on(Accounts, 'byService')).toThrow(/a decorated method of Accounts/);
  });

  it('[TEST-4] uses the mocks of the test runner in its services', async () => {
    jest.spyOn(module.get(CounterService), 'get').mockResolvedValue(5);
    expect(await module.get(AtomicRedis).counters.get('n')).toBe(5);
    const push = jest.fn();
    module.get(ReliableQueueService).get('mails').push = push;
    await module.get(Jobs).queues.get('mails').push('hello');
    expect(push).toHaveBeenCalledWith('hello');
    const named = module.get(Jobs).redis;
    expect(named.counters).not.toBe(module.get(CounterService));
    await expect(named.counters.get('n')).rejects.toThrow(/no answer/);
  });

  it('[TEST-4] runs a callback that is given to a service', async () => {
    outcomes.onRead('get', 'k').returns('v');
    expect(await module.get(Accounts).byService('k')).toBe('v');
    expect(await module.get(IdempotencyService).run('k', ({ signal }) => signal.aborted)).toBe(false);
    expect(await module.get(CounterService).run('k', 2, ({ value }) => value)).toBe(2);
    expect(module.get(AtomicRedisEvents).subscribe(() => undefined)).toEqual(expect.any(Function));
  });

  it('[TEST-8] shows the pushes and completions of transactions that succeeded', async () => {
    const app = await Test.createTestingModule({
      imports: [AtomicRedisTestingModule, AtomicRedisModule.forFeature([mailQueue])],
      providers: [Shipping],
    }).compile();
    const chosen = app.get(AtomicRedisOutcomes);
    const shipping = app.get(Shipping);
    chosen.on(Shipping, 'ship').conflicts(2);
    const job = testJob({ sku: 'tea' }, { id: '7', deliveries: 2 });
    expect(await shipping.ship(job)).toEqual(expect.any(String));
    await expect(shipping.ship(testJob({ sku: '' }))).rejects.toThrow(RangeError);
    expect(chosen.pushed).toEqual([{ queue: 'mails', payload: 'tea', delayMs: 5 }]);
    expect(chosen.completedJobs).toEqual(['7']);
    expect(chosen.writes).toEqual([['decr', 'stock:tea']]);
    await shipping.byService(job);
    expect(chosen.completedJobs).toEqual(['7', '7']);
    expect(chosen.pushed).toHaveLength(2);
    chosen.reset();
    expect([chosen.pushed, chosen.completedJobs]).toEqual([[], []]);
    await app.close();
  });

  it('[TEST-8] creates jobs for the methods of consumers', async () => {
    const job = testJob('payload');
    expect(job).toMatchObject({ id: 'job', payload: 'payload', deliveries: 1 });
    expect([await job.extend(), await job.ack(), await job.retry({ reason: 'why' })]).toEqual([
      true,
      true,
      true,
    ]);
    expect(await job.ackAndTakeNext()).toEqual({ acked: true, next: null });
    expect(job.calls).toEqual(['extend', 'ack', 'retry', 'ackAndTakeNext']);
    expect(job.signal.aborted).toBe(false);
  });

  it('[TEST-5] does not start in production', async () => {
    const before = process.env['NODE_ENV'];
    process.env['NODE_ENV'] = 'production';
    try {
      const boot = Test.createTestingModule({ imports: [AtomicRedisTestingModule] }).compile();
      await expect(boot).rejects.toThrow(/does not start where NODE_ENV is production/);
    } finally {
      process.env['NODE_ENV'] = before;
    }
  });

  it('[TEST-6] replaces the module that an application imports', async () => {
    const redisModule = AtomicRedisModule.forRoot({ connection: NOBODY, namespace: 'shop:' });
    @Module({ imports: [redisModule], providers: [Stock] })
    class AppModule {}
    const app = await Test.createTestingModule({ imports: [AppModule] })
      .overrideModule(redisModule)
      .useModule(AtomicRedisTestingModule)
      .compile();
    await app.init();
    expect(await app.get(Stock).take('tea')).toBe('tea: -2');
    await app.close();
  });

  it('[TEST-3] distinguishes a hand-made object from one that Nest created', async () => {
    await expect((async () => new OrdersController().create())()).rejects.toThrow(
      /OrdersController\.create was called on an object that Nest did not create.* imports: \[AtomicRedisTestingModule\]/,
    );
  });
});

describe('overrideProvider', () => {
  const lazy = AtomicRedisModule.forRoot({ connection: NOBODY, namespace: 'shop:', lazyConnect: true });

  it.each(SERVICES.map((service) => [service.name, service] as const))(
    '[TEST-7] replaces %s in an application that starts and closes',
    async (_, service) => {
      for (const from of [lazy, AtomicRedisTestingModule]) {
        const replacement = {};
        const module = await Test.createTestingModule({
          imports: [from],
          providers: [Stock],
          controllers: [OrdersController],
        })
          .overrideProvider(service)
          .useValue(replacement)
          .compile();
        await module.init();
        expect(module.get(service as typeof CounterService)).toBe(replacement);
        expect(Object.values(module.get(AtomicRedis))).toContain(replacement);
        await module.close();
      }
    },
  );

  it('[TEST-7] also replaces the service for decorators', async () => {
    const module = await Test.createTestingModule({ imports: [lazy], providers: [Stock, Accounts, Caller] })
      .overrideProvider(CounterService)
      .useValue({ add: async () => ({ value: 1, applied: -2, limited: false }) })
      .overrideProvider(IdempotencyService)
      .useValue({ run: async (key: string, work: () => unknown) => [key, await work()] })
      .overrideProvider(TransactionService)
      .useValue({ run: async () => 'from the test' })
      .compile();
    await module.init();
    expect(await module.get(Stock).take('tea')).toBe('tea: 1');
    expect(await module.get(Caller).call('7')).toEqual(['7', 'called']);
    expect(await module.get(Accounts).withdraw('1', 1)).toBe('from the test');
    await module.close();
  });

  it('[TEST-7] names the method that a replacement lacks', async () => {
    const module = await Test.createTestingModule({ imports: [lazy], providers: [Stock, Caller] })
      .overrideProvider(CounterService)
      .useValue({})
      .overrideProvider(IdempotencyService)
      .useValue({})
      .compile();
    await expect(module.get(Stock).take('tea')).rejects.toThrow(ConfigurationError);
    await expect(module.get(Caller).call('7')).rejects.toThrow(
      /@Idempotent\(\) calls IdempotencyService\.run\(\).* lacks it/,
    );
    await module.close();
  });

  it('[TEST-7] respects a limit that a replaced add() reports', async () => {
    const module = await Test.createTestingModule({ imports: [lazy], providers: [Stock] })
      .overrideProvider(CounterService)
      .useValue({ add: async () => ({ value: 1, applied: 0, limited: true }) })
      .compile();
    await expect(module.get(Stock).take('tea')).rejects.toThrow(CounterLimitError);
    await module.close();
  });

  it('[TEST-7] gives a route the result of a replaced IdempotencyService', async () => {
    const module = await Test.createTestingModule({ imports: [lazy], controllers: [OrdersController] })
      .overrideProvider(IdempotencyService)
      .useValue({ run: async (key: string) => ({ key }) })
      .compile();
    const app: INestApplication = module.createNestApplication({ logger: false });
    await app.listen(0, '127.0.0.1');
    try {
      const response = await fetch(`${await app.getUrl()}/orders`, {
        method: 'POST',
        headers: { 'idempotency-key': 'k-1' },
      });
      expect(await response.json()).toEqual({ key: 'k-1' });
    } finally {
      await app.close();
    }
  });
});

@Injectable()
class Caller {
  @Idempotent({ operation: 'caller.call', key: (id: string) => id })
  async call(_id: string): Promise<unknown> {
    return 'called';
  }
}
