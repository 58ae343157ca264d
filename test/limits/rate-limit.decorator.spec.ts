import {
  BadRequestException,
  Body,
  Controller,
  Get,
  Injectable,
  Module,
  ParseIntPipe,
  Post,
  Param,
  Sse,
  UseGuards,
  UseInterceptors,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
  type MessageEvent,
  type NestInterceptor,
  type Type,
} from '@nestjs/common';
import { EventPattern, GrpcMethod, MessagePattern } from '@nestjs/microservices';
import { SubscribeMessage } from '@nestjs/websockets';
import { Field, GraphQLModule, Int, ObjectType, Query, ResolveField, Resolver } from '@nestjs/graphql';
import { MercuriusDriver, type MercuriusDriverConfig } from '@nestjs/mercurius';
import { Test } from '@nestjs/testing';
import {
  AtomicCounter,
  ConfigurationError,
  Idempotent,
  InvalidArgumentError,
  LimitExceededError,
  LimitService,
  OutcomeUnknownError,
  RateLimit,
  RedisUnavailableError,
  type RateLimitOptions,
} from 'nestjs-atomic-redis';
import { AtomicRedisOutcomes, AtomicRedisTestingModule } from 'nestjs-atomic-redis/testing';
import { concat, defaultIfEmpty, NEVER, of, retry, Subject, takeUntil, type Observable } from 'rxjs';
import { startApp, urlOf } from '../problem-details/edge-app.js';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const LONG_MS = 31_536_000_000;
/** Nothing of it becomes free while a test runs. */
const three = { limit: 3, perMs: LONG_MS, algorithm: 'fixed' } as const;

/** Puts another function in the method's place, as decorators of other libraries do. */
const Traced = (): MethodDecorator => (_target, _key, descriptor) => {
  const inner = descriptor.value as unknown as (...args: unknown[]) => unknown;
  const outer = function (this: unknown, ...args: unknown[]): unknown {
    return inner.apply(this, args);
  };
  for (const key of Reflect.getMetadataKeys(inner))
    Reflect.defineMetadata(key, Reflect.getMetadata(key, inner), outer);
  descriptor.value = outer as never;
};

/** Attaches the user of a header, as authentication does. */
@Injectable()
class Authentication implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string>; user?: object }>();
    const { 'x-user': user } = request.headers;
    if (user !== undefined) request.user = { id: user };
    return true;
  }
}

@Injectable()
class Password implements CanActivate {
  static asked = 0;

  canActivate(): boolean {
    Password.asked++;
    return false;
  }
}

@Controller('limited')
@UseGuards(Authentication)
class LimitedController {
  runs = 0;

  @Get('plain')
  @RateLimit({ limits: three })
  plain() {
    return { runs: ++this.runs };
  }

  @Get('other')
  @RateLimit({ limits: three })
  other() {
    return 'ok';
  }

  @Get('traced')
  @Traced()
  @RateLimit({ limits: three })
  traced() {
    return 'ok';
  }

  @Get('several')
  @RateLimit({
    limits: [
      { ...three, policy: 'burst' },
      { limit: 100, perMs: 60_500, algorithm: 'sliding' },
    ],
    cost: 2,
  })
  several() {
    return 'ok';
  }

  @RateLimit({ limits: three, requestKey: (request) => `sign-in:${String(request.headers['x-name'])}` })
  @UseGuards(Password)
  @Post('sign-in')
  signIn() {
    return 'never';
  }

  @Post('once')
  @RateLimit({ limits: three })
  @Idempotent()
  once(@Body() body: object) {
    return { runs: ++this.runs, ...body };
  }

  @Get('refunds/:id')
  @RateLimit({ limits: three, onError: 'refund' })
  async refunds(@Param('id', ParseIntPipe) id: number) {
    if (id === 1) throw new BadRequestException();
    if (id === 2) throw new OutcomeUnknownError('who knows');
    return id;
  }

  @Get('arguments/:id')
  @RateLimit({ limits: three, key: (id: string) => `argument:${id}` })
  async arguments(@Param('id') id: string) {
    return id;
  }
}

/** Repeats a call that fails, and gives one up on request. */
@Injectable()
class Impatient implements NestInterceptor {
  static readonly stop = new Subject<void>();

  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(retry(1), takeUntil(Impatient.stop), defaultIfEmpty('stopped'));
  }
}

const refunding = { limits: three, onError: 'refund', refundTtlMs: LONG_MS } as const;

@Controller('impatient')
@UseInterceptors(Impatient)
class ImpatientController {
  runs = 0;

  @Get('repeated')
  @RateLimit(refunding)
  repeated() {
    if (++this.runs % 2 === 1) throw new BadRequestException();
    return 'ok';
  }

  @Get('refused')
  @RateLimit({ ...refunding, limits: { ...three, limit: 1 } })
  refused() {
    this.runs++;
    throw new OutcomeUnknownError('who knows');
  }

  @Get('stopped')
  @RateLimit({ ...refunding, key: 'stopped' })
  stopped() {
    Impatient.stop.next();
    return 'late';
  }

  @Sse('events')
  @RateLimit({ ...refunding, key: 'events' })
  events(): Observable<MessageEvent> {
    return concat(of({ data: 'first' }), NEVER);
  }
}

@Injectable()
class Partner {
  runs = 0;

  @RateLimit({ key: (name: string) => `partner:${name}`, cost: (_: string, n: number) => n, limits: three })
  async call(_name: string, _n: number): Promise<number> {
    return ++this.runs;
  }

  @RateLimit({ key: 'all', limits: three, onError: 'refund' })
  async fail(error?: Error): Promise<void> {
    if (error) throw error;
  }
}

describe.each(['express', 'fastify'])('@RateLimit on %s', (platform) => {
  const redis = useRedis();
  let app: INestApplication;

  beforeAll(async () => {
    app = await startApp({
      platform,
      controllers: [LimitedController, ImpatientController],
      providers: [Partner],
      options: { connection: redis.server.url, lazyConnect: false, timeoutMs: 20_000 },
    });
  });

  afterAll(() => app.close());

  const get = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
    fetch(`${urlOf(app)}/limited/${path}`, {
      method,
      headers: { ...headers, ...(method === 'POST' && { 'content-type': 'application/json' }) },
      ...(method === 'POST' && { body: '{}' }),
    });
  const statuses = async (times: number, ask: () => Promise<Response>): Promise<number[]> => {
    const answers: number[] = [];
    for (let i = 0; i < times; i++) answers.push((await ask()).status);
    return answers;
  };

  it('[RL-1] answers 429 with a problem, Retry-After and the RateLimit fields, and does not run the method', async () => {
    const { runs } = app.get(LimitedController);
    const first = await get('plain');
    expect(first.status).toBe(200);
    expect(first.headers.get('ratelimit-policy')).toBe(`"default";q=3;w=${LONG_MS / 1_000}`);
    expect(first.headers.get('ratelimit')).toMatch(/^"default";r=2;t=\d+$/);
    expect(await statuses(2, () => get('plain'))).toEqual([200, 200]);
    const refused = await get('plain');
    expect(refused.status).toBe(429);
    expect(refused.headers.get('content-type')).toContain('application/problem+json');
    expect(refused.headers.get('ratelimit')).toMatch(/^"default";r=0;t=\d+$/);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await refused.json()).toMatchObject({
      title: 'Too Many Requests',
      status: 429,
      code: 'LIMIT_EXCEEDED',
      outcome: 'not-applied',
      retryable: true,
    });
    expect(app.get(LimitedController).runs).toBe(runs + 3);
  });

  it('[RL-2] counts callers separately by the name that a guard attached, else by address, and counts routes separately', async () => {
    expect(await statuses(4, () => get('plain', { 'x-user': 'anna' }))).toEqual([200, 200, 200, 429]);
    expect(await statuses(4, () => get('plain', { 'x-user': 'ben' }))).toEqual([200, 200, 200, 429]);
    expect(await statuses(1, () => get('other', { 'x-user': 'anna' }))).toEqual([200]);
    expect(await statuses(4, () => get('traced'))).toEqual([200, 200, 200, 429]);
    // Names that no hash tag can hold, and one that could be mistaken for such a name.
    for (const user of ['a{n}na', 'a%7bn%7dna'])
      expect(await statuses(4, () => get('plain', { 'x-user': user }))).toEqual([200, 200, 200, 429]);
    // An unchecked secret makes no other caller.
    let n = 0;
    const guess = () =>
      get('plain', { authorization: `Bearer ${n++}`, 'x-api-key': `${n}`, cookie: `sid=${n}` });
    expect(await statuses(4, guess)).toEqual([200, 200, 200, 429]);
  });

  it('[RL-1] takes from all of several limits or from none, and names them to the client', async () => {
    const first = await get('several');
    expect(first.headers.get('ratelimit-policy')).toBe(
      `"burst";q=3;w=${LONG_MS / 1_000}, "limit-2";q=100;w=61`,
    );
    expect(first.headers.get('ratelimit')).toMatch(/^"burst";r=1;t=\d+, "limit-2";r=98;t=\d+$/);
    const refused = await get('several');
    expect([refused.status, refused.headers.get('ratelimit')]).toEqual([
      429,
      expect.stringMatching(/^"burst";r=1;t=\d+, "limit-2";r=98;t=\d+$/),
    ]);
  });

  it('[RL-3] takes before the guards of the method, to slow down the guessing of passwords', async () => {
    Password.asked = 0;
    const guess = () => get('sign-in', { 'x-name': 'anna' }, 'POST');
    expect(await statuses(5, guess)).toEqual([403, 403, 403, 429, 429]);
    expect(Password.asked).toBe(3);
    // Another name is counted apart.
    expect(await statuses(1, () => get('sign-in', { 'x-name': 'ben' }, 'POST'))).toEqual([403]);
  });

  it('[RL-1] stands outside @Idempotent: a replay takes too, and a refused request claims no key', async () => {
    const ask = (key: string) => get('once', { 'idempotency-key': key }, 'POST');
    const answers = [await ask('a'), await ask('a'), await ask('a'), await ask('b')];
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 429]);
    expect(answers.map(({ headers }) => headers.get('idempotency-replayed'))).toEqual([
      null,
      'true',
      'true',
      null,
    ]);
    expect(answers[2]!.headers.get('ratelimit')).toMatch(/r=0/);
    expect(await redis.client.keys('atomic:idempotency*')).toHaveLength(1);
  });

  it('[RL-4] gives back the cost of a failed call unless it may have taken effect', async () => {
    expect(await statuses(5, () => get('refunds/1'))).toEqual([400, 400, 400, 400, 400]);
    expect(await statuses(2, () => get('refunds/x'))).toEqual([400, 400]);
    expect(await statuses(2, () => get('refunds/2'))).toEqual([503, 503]);
    expect(await statuses(2, () => get('refunds/7'))).toEqual([200, 429]);
  });

  it('[RL-4] takes again for an attempt that an interceptor repeats, and may refuse it', async () => {
    const ask = (path: string) => fetch(`${urlOf(app)}/impatient/${path}`);
    expect(await statuses(4, () => ask('repeated'))).toEqual([200, 200, 200, 429]);
    const { runs } = app.get(ImpatientController);
    expect(await statuses(1, () => ask('refused'))).toEqual([429]);
    expect(app.get(ImpatientController).runs).toBe(runs + 1);
  });

  it.each(['stopped', 'events'])('[RL-4] keeps the cost of an abandoned call: %s', async (key) => {
    const client = new AbortController();
    const response = await fetch(`${urlOf(app)}/impatient/${key}`, { signal: client.signal });
    expect(response.status).toBe(200);
    if (key === 'events') client.abort();
    else expect(await response.text()).toBe('stopped');
    await waitFor('the end of the reservation', async () => {
      const kept = await redis.client.keys('atomic:limit*');
      return kept.length === 1 && !kept[0]!.includes('holds');
    });
    expect((await app.get(LimitService).peek({ ...three, key })).remaining).toBe(2);
  });

  it('[RL-5] takes its key from the arguments in the phase method, after guards and pipes', async () => {
    expect(await statuses(4, () => get('arguments/a'))).toEqual([200, 200, 200, 429]);
    const refused = await get('arguments/a');
    expect(refused.headers.get('ratelimit')).toMatch(/^"default";r=0;t=\d+$/);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await get('arguments/b')).status).toBe(200);
  });

  it('[RL-5] limits methods of providers by their arguments', async () => {
    const partner = app.get(Partner);
    expect(await partner.call('a', 2)).toBe(1);
    const refused = await partner.call('a', 2).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(LimitExceededError);
    expect(refused).toMatchObject({ policies: [{ name: 'default', limit: 3, remaining: 1 }] });
    expect((refused as LimitExceededError).retryAfterMs).toBeGreaterThan(0);
    expect(await partner.call('b', 3)).toBe(2);
  });

  it('[RL-4] gives back the cost of a provider’s failed method, and throws the same error', async () => {
    const partner = app.get(Partner);
    const own = new Error('own');
    for (let i = 0; i < 5; i++) await expect(partner.fail(own)).rejects.toBe(own);
    await expect(partner.fail(new OutcomeUnknownError(''))).rejects.toThrow(OutcomeUnknownError);
    await partner.fail();
    await partner.fail();
    await expect(partner.fail()).rejects.toThrow(LimitExceededError);
  });
});

@ObjectType()
class Team {
  @Field(() => Int)
  readonly id: number = 7;
}

@Resolver(() => Team)
class TeamResolver {
  @Query(() => Team)
  team(): Team {
    return new Team();
  }

  @ResolveField(() => Int)
  @RateLimit({ key: 'score', limits: three, onError: 'refund' })
  async score(): Promise<number> {
    return 42;
  }
}

@Module({ providers: [TeamResolver] })
class TeamModule {}

type Enhancer = NonNullable<MercuriusDriverConfig['fieldResolverEnhancers']>[number];

interface GraphqlAnswer {
  readonly data: object;
  readonly errors?: readonly { readonly extensions: object }[];
}

describe('@RateLimit', () => {
  const boot = useApp();
  const redis = useRedis();

  const startGraphql = (module: Type, more: Partial<MercuriusDriverConfig> = {}): Promise<INestApplication> =>
    startApp({
      platform: 'fastify',
      controllers: [],
      options: { connection: redis.server.url, lazyConnect: false },
      after: [
        GraphQLModule.forRoot<MercuriusDriverConfig>({
          driver: MercuriusDriver,
          autoSchemaFile: true,
          context: (request: unknown) => ({ req: request }),
          ...more,
        }),
        module,
      ],
    });

  const askGraphql = async (app: INestApplication, query: string): Promise<GraphqlAnswer> => {
    const response = await fetch(`${urlOf(app)}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query }),
    });
    return (await response.json()) as GraphqlAnswer;
  };

  const start = (...providers: Type[]) => boot({ connection: redis.server.url }, { providers });

  it('[RL-6] refuses to boot under another decorator, and on a method that has neither a request nor a key', async () => {
    const misplaced = () => {
      class Wrong {
        @AtomicCounter({ key: 'n' })
        @RateLimit({ key: 'k', limits: three })
        async run() {}
      }
      return Wrong;
    };
    expect(misplaced).toThrow(/@RateLimit\(\) must stand above @AtomicCounter\(\)/);

    @Injectable()
    class Keyless {
      @RateLimit({ limits: three })
      async run() {}
    }
    await expect(start(Keyless)).rejects.toThrow(ConfigurationError);

    // Nest puts no guard before it, so there is no request that has been looked at.
    @Resolver()
    class KeylessField {
      @ResolveField('score', () => Int)
      @RateLimit({ limits: three })
      async score() {
        return 42;
      }
    }
    await expect(start(KeylessField)).rejects.toThrow(ConfigurationError);
  });

  it.each<[string, MethodDecorator]>([
    ['messages', MessagePattern('sign-in')],
    ['events', EventPattern('sign-in') as MethodDecorator],
    ['gRPC', GrpcMethod('Sessions', 'signIn')],
    ['a gateway', SubscribeMessage('sign-in')],
  ])('[RL-6] refuses to boot with a route in the phase guard that %s would bypass', async (_, handler) => {
    const controllerWith = (options: RateLimitOptions): Type => {
      @Controller()
      class Both {
        @Post('sign-in')
        @handler
        @RateLimit(options)
        async signIn() {}
      }
      return Both;
    };
    const bootWith = (options: RateLimitOptions) =>
      boot({ connection: redis.server.url }, { controllers: [controllerWith(options)] });
    for (const key of [undefined, 'sign-ins'])
      await expect(bootWith(key ? { key, limits: three } : { limits: three })).rejects.toThrow(
        /message handler too/,
      );
    await bootWith({ key: 'sign-ins', phase: 'method', limits: three });
  });

  it('[RL-6] refuses a call of a route in the phase guard that has no request', async () => {
    class Rabbit {
      @Post()
      @RateLimit({ limits: three })
      async signIn() {}
    }
    const [Guard] = Reflect.getMetadata('__guards__', Rabbit.prototype.signIn) as [new () => CanActivate];
    const context = { getType: () => 'rmq', getClass: () => class {} } as unknown as ExecutionContext;
    const module = await start(Guard);
    const refused = module.get(Guard).canActivate(context);
    await expect(refused).rejects.toThrow(/was called over rmq/);
    await module.close();
  });

  it.each<[string, unknown, string]>([
    ['no limits', {}, '@RateLimit.limits'],
    ['a limit of 0', { limits: { limit: 0, perMs: 1 } }, '@RateLimit.limits.limit'],
    ['one limit twice', { limits: [three, three] }, 'limits[1]'],
    ['another phase', { limits: three, phase: 'pipe' }, '@RateLimit.phase'],
    [
      'a callback before the arguments are known',
      { limits: three, phase: 'guard', key: () => 'k' },
      '@RateLimit.phase',
    ],
    ['two keys', { limits: three, key: 'k', requestKey: () => 'k' }, '@RateLimit.requestKey'],
    [
      'a cost before the arguments are known',
      { limits: three, phase: 'guard', cost: () => 1 },
      '@RateLimit.phase',
    ],
    [
      'a key from the request once the arguments are known',
      { limits: three, phase: 'method', requestKey: () => 'k' },
      '@RateLimit.requestKey',
    ],
    ['a policy that HTTP cannot carry', { limits: { ...three, policy: 'a"b' } }, '@RateLimit.limits.policy'],
  ])('[RL-6] refuses %s at once', (_, options, argument) => {
    let thrown: unknown;
    try {
      RateLimit(options as RateLimitOptions);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(InvalidArgumentError);
    expect(thrown).toMatchObject({ argument });
  });

  it.each(['express', 'fastify'])('[RL-8] accepts no request without Redis, on %s', async (platform) => {
    const app = await startApp({
      platform,
      controllers: [LimitedController],
      providers: [Partner],
      options: { timeoutMs: 200 },
    });
    try {
      for (const path of ['plain', 'refunds/7', 'arguments/a']) {
        const response = await fetch(`${urlOf(app)}/limited/${path}`);
        expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1']);
        expect(await response.json()).toMatchObject({ code: 'REDIS_UNAVAILABLE', outcome: 'not-applied' });
      }
      expect(app.get(LimitedController).runs).toBe(0);
      await expect(app.get(Partner).call('a', 1)).rejects.toThrow(RedisUnavailableError);
      expect(app.get(Partner).runs).toBe(0);
    } finally {
      await app.close();
    }
  });

  it('[RL-2] limits resolvers for each caller', async () => {
    @Resolver()
    class LimitedResolver {
      @Query(() => Int)
      @RateLimit({ limits: three, onError: 'refund' })
      async answer(): Promise<number> {
        return 42;
      }
    }
    @Module({ providers: [LimitedResolver] })
    class ResolverModule {}
    const app = await startGraphql(ResolverModule);
    try {
      for (let i = 0; i < 3; i++) expect((await askGraphql(app, '{ answer }')).data).toEqual({ answer: 42 });
      expect((await askGraphql(app, '{ answer }')).errors).toMatchObject([
        { extensions: { code: 'LIMIT_EXCEEDED' } },
      ]);
    } finally {
      await app.close();
    }
  });

  it.each([[[]], [['guards', 'interceptors']]])(
    '[RL-5] limits resolvers of fields by their key, with the enhancers %j',
    async (fieldResolverEnhancers) => {
      const app = await startGraphql(TeamModule, {
        fieldResolverEnhancers: fieldResolverEnhancers as Enhancer[],
      });
      try {
        for (let i = 0; i < 3; i++)
          expect(await askGraphql(app, '{ team { score } }')).toEqual({ data: { team: { score: 42 } } });
        expect((await askGraphql(app, '{ team { score } }')).errors).toMatchObject([
          { message: expect.stringContaining('Limits refuse the call'), path: ['team', 'score'] },
        ]);
      } finally {
        await app.close();
      }
    },
  );

  it('[RL-4] gives back the cost of a call that a later guard refused when its reservation lapses', async () => {
    @Controller()
    class Refusing {
      @Get('refused')
      @UseGuards(Password)
      @RateLimit({ key: 'refused', limits: three, onError: 'refund', refundTtlMs: 500 })
      get() {}
    }
    const app = await startApp({
      platform: 'express',
      controllers: [Refusing],
      options: { connection: redis.server.url, lazyConnect: false },
    });
    try {
      const ask = async () => (await fetch(`${urlOf(app)}/refused`)).status;
      expect(await ask()).toBe(403);
      const limit = { ...three, key: 'refused' };
      await waitFor('the lapse', async () => (await app.get(LimitService).peek(limit)).remaining === 3);
    } finally {
      await app.close();
    }
  });

  it('[RL-7] is simulated in unit tests without Redis', async () => {
    const module = await Test.createTestingModule({
      imports: [AtomicRedisTestingModule],
      providers: [Partner],
      controllers: [LimitedController],
    }).compile();
    const app = await module.createNestApplication({ logger: false }).init();
    const partner = app.get(Partner);
    const outcomes = app.get(AtomicRedisOutcomes);
    expect(await partner.call('a', 99)).toBe(1);
    outcomes.on(Partner, 'call').limitExceeded();
    await expect(partner.call('a', 1)).rejects.toThrow(LimitExceededError);
    outcomes.reset();
    expect(await partner.call('a', 1)).toBe(2);
    await app.close();
  });
});
