import {
  Catch,
  Controller,
  Get,
  HttpException,
  Injectable,
  Inject,
  Module,
  Optional,
  Param,
  Post,
  Res,
  Scope,
  Sse,
  UseFilters,
  UseGuards,
  UseInterceptors,
  Version,
  VersioningType,
  type ArgumentsHost,
  type CallHandler,
  type CanActivate,
  type ExceptionFilter,
  type INestApplication,
  type NestInterceptor,
  type Provider,
} from '@nestjs/common';
import { APP_FILTER, HttpAdapterHost, REQUEST, RouterModule } from '@nestjs/core';
import { MessagePattern, Server } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import {
  AtomicRedisError,
  AtomicRedisModule,
  CounterLimitError,
  IdempotencyInFlightError,
  RedisUnavailableError,
  TransactionConflictError,
  WrongTypeError,
} from 'nestjs-atomic-redis';
import { catchError, from, lastValueFrom, of, retry, throwError, type Observable } from 'rxjs';
import { ask, CatchEverythingFilter, Errors, startApp, type Parts } from './edge-app.js';

const unavailable = (): RedisUnavailableError => new RedisUnavailableError('Redis at secret:6379 was away');
const own = new Error('of the application');

@Injectable()
class Accounts {
  async fail(): Promise<void> {
    throw unavailable();
  }
}

@Controller('edge')
class EdgeController {
  constructor(private readonly accounts: Accounts) {}

  @Get('rejects')
  async rejects(): Promise<void> {
    await this.accounts.fail();
  }

  @Get('throws')
  throws(): void {
    throw unavailable();
  }

  @Get('observable')
  observable(): Observable<never> {
    return throwError(unavailable);
  }

  @Get('promise-of-observable')
  async promiseOfObservable(): Promise<Observable<never>> {
    return throwError(unavailable);
  }

  @Get('thenable')
  thenable(): PromiseLike<void> {
    // eslint-disable-next-line unicorn/no-thenable
    return { then: (_: unknown, reject: (error: unknown) => unknown) => void reject(unavailable()) } as never;
  }

  @Get('response')
  response(@Res() _response: unknown): never {
    throw unavailable();
  }

  @Get('passthrough')
  passthrough(@Res({ passthrough: true }) _response: unknown): never {
    throw unavailable();
  }

  @Get(['array/:id', 'array-too/:id'])
  array(@Param('id') _id: string, ...rest: unknown[]): never {
    if (rest.length > 0) throw new Error('an argument too many');
    throw unavailable();
  }

  @Sse('events')
  async events(): Promise<never> {
    throw unavailable();
  }
}

const SHAPES = [
  'rejects',
  'throws',
  'observable',
  'promise-of-observable',
  'thenable',
  'response',
  'passthrough',
  'array/1',
  'array-too/1',
  'events',
];

@Module({ providers: [{ provide: APP_FILTER, useClass: CatchEverythingFilter }] })
class FilterModule {}

@Controller('edge')
@UseFilters(CatchEverythingFilter)
class FilteredController extends EdgeController {}

@Controller('edge')
class FilteredMethodsController extends EdgeController {
  @Get('rejects')
  @UseFilters(CatchEverythingFilter)
  override rejects(): Promise<void> {
    return super.rejects();
  }
}

const appFilter: Provider = { provide: APP_FILTER, useClass: CatchEverythingFilter };
const useGlobal = (app: INestApplication): void =>
  void app.useGlobalFilters(new CatchEverythingFilter(app.get(HttpAdapterHost)));

const PLACES: Record<string, Omit<Parts, 'platform' | 'controllers'> & Partial<Parts>> = {
  'app.useGlobalFilters': { configure: useGlobal },
  'APP_FILTER of a module before': { before: [FilterModule] },
  'APP_FILTER of a module after': { after: [FilterModule] },
  'APP_FILTER of AppModule': { providers: [appFilter] },
  'the controller': { controllers: [FilteredController] },
};

/** Answers as a filter of an application does. */
const answerWith = (host: ArgumentsHost, status: number): void =>
  host
    .switchToHttp()
    .getResponse<{ status(code: number): { send(body: unknown): void } }>()
    .status(status)
    .send({});

describe.each(['express', 'fastify'])('the error responses of a route on %s', (platform) => {
  let app: INestApplication | undefined;

  const start = async (parts: Partial<Parts>): Promise<INestApplication> => {
    const { controllers = [EdgeController], providers = [], ...more } = parts;
    return (app = await startApp({ ...more, platform, controllers, providers: [Accounts, ...providers] }));
  };

  afterEach(async () => {
    await app?.close();
    app = undefined;
  });

  it.each(Object.keys(PLACES))(
    '[ERR-1] give an error its status, Retry-After and problem through a catch-everything filter at %s',
    async (place) => {
      await start(PLACES[place]!);
      for (const shape of SHAPES) {
        const answer = await ask(app!, `/edge/${shape}`);
        expect([shape, answer]).toMatchObject([shape, { status: 503, retryAfter: '1' }]);
        // The module's own filter answers if it comes first.
        expect([shape, answer.body.said ?? answer.body]).toMatchObject([
          shape,
          { code: 'REDIS_UNAVAILABLE' },
        ]);
        expect(JSON.stringify(answer.body)).not.toContain('secret');
      }
    },
  );

  it('[ERR-1] are the same with a filter on the method', async () => {
    await start({ controllers: [FilteredMethodsController] });
    expect(await ask(app!, '/edge/rejects')).toMatchObject({
      status: 503,
      retryAfter: '1',
      body: { said: { code: 'REDIS_UNAVAILABLE' } },
    });
  });

  it.each([
    ['the module’s own filter', {}, 'application/problem+json'],
    ['no filter at all', { exceptionFilter: false }, 'application/json'],
  ])('[ERR-1] are problem details with %s', async (_, options, type) => {
    await start({ options });
    for (const shape of SHAPES) {
      const answer = await ask(app!, `/edge/${shape}`);
      expect([shape, answer]).toMatchObject([
        shape,
        {
          status: 503,
          retryAfter: '1',
          body: { status: 503, code: 'REDIS_UNAVAILABLE', outcome: 'not-applied', retryable: true },
        },
      ]);
      expect(answer.contentType).toContain(type);
    }
  });

  it('[ERR-1] leave the error with its fields to a filter of the application', async () => {
    const caught: AtomicRedisError[] = [];
    @Catch(AtomicRedisError)
    class AnyFilter implements ExceptionFilter<AtomicRedisError> {
      catch(error: AtomicRedisError, host: ArgumentsHost): void {
        caught.push(error);
        answerWith(host, 418);
      }
    }
    @Catch(IdempotencyInFlightError)
    class OneFilter implements ExceptionFilter<IdempotencyInFlightError> {
      catch(error: IdempotencyInFlightError, host: ArgumentsHost): void {
        caught.push(error);
        answerWith(host, 420);
      }
    }
    @Controller()
    @UseFilters(AnyFilter, OneFilter)
    class FailingController {
      @Get('limit')
      limit(): never {
        throw new CounterLimitError('tickets', 3, 1, 3);
      }
      @Get('in-flight')
      async inFlight(): Promise<never> {
        throw new IdempotencyInFlightError(2_500);
      }
    }
    await start({ controllers: [FailingController] });
    expect(await ask(app!, '/limit')).toMatchObject({ status: 418, retryAfter: null });
    expect(await ask(app!, '/in-flight')).toMatchObject({ status: 420, retryAfter: '3' });
    const [limit, inFlight] = caught;
    const original = new CounterLimitError('tickets', 3, 1, 3);
    expect(limit).toMatchObject(Object.assign({}, original));
    expect(limit).toBeInstanceOf(CounterLimitError);
    expect(limit).toBeInstanceOf(HttpException);
    expect(limit).not.toBeInstanceOf(TransactionConflictError);
    expect(limit!.cause).toBeInstanceOf(CounterLimitError);
    expect(limit!.cause).not.toBeInstanceOf(HttpException);
    expect(limit!.name).toBe('CounterLimitError');
    expect(inFlight).toBeInstanceOf(IdempotencyInFlightError);
    expect(inFlight).toMatchObject({ retryAfterMs: 2_500, code: 'IDEMPOTENCY_IN_FLIGHT', retryable: true });
  });

  it('[ERR-1] leave the error with its fields to an interceptor, and a second call of the handler has no Retry-After', async () => {
    let calls = 0;
    class RetryInterceptor implements NestInterceptor {
      intercept(_: unknown, next: CallHandler): Observable<unknown> {
        return next.handle().pipe(
          retry(1),
          catchError((error: unknown) => of({ seen: error instanceof RedisUnavailableError && error.code })),
        );
      }
    }
    @Controller()
    @UseInterceptors(RetryInterceptor)
    class RetriedController {
      @Get('once')
      async once(): Promise<string> {
        if (++calls === 1) throw unavailable();
        return 'done';
      }
      @Get('always')
      async always(): Promise<never> {
        throw unavailable();
      }
    }
    await start({ controllers: [RetriedController] });
    expect(await ask(app!, '/once')).toMatchObject({ status: 200, body: 'done', retryAfter: null });
    expect((await ask(app!, '/always')).body).toEqual({ seen: 'REDIS_UNAVAILABLE' });
  });

  it('[ERR-2] leave errors of the application alone, the same instance', async () => {
    const caught: unknown[] = [];
    @Catch()
    class Filter implements ExceptionFilter {
      catch(error: unknown, host: ArgumentsHost): void {
        caught.push(error);
        answerWith(host, 418);
      }
    }
    const exception = new HttpException({ mine: true }, 409);
    @Controller()
    @UseFilters(Filter)
    class OwnController {
      @Get('error')
      async error(): Promise<never> {
        throw own;
      }
      @Get('exception')
      exception(): never {
        throw exception;
      }
      @Get('observable')
      observable(): Observable<never> {
        return throwError(() => own);
      }
      @Get('nothing')
      async nothing(): Promise<never> {
        return lastValueFrom(throwError(() => undefined));
      }
    }
    await start({ controllers: [OwnController] });
    for (const path of ['error', 'exception', 'observable', 'nothing']) await ask(app!, `/${path}`);
    expect(caught).toHaveLength(4);
    [own, exception, own, undefined].forEach((error, i) => expect(caught[i]).toBe(error));
  });

  it('[ERR-1] exist in request-scoped, versioned and inherited routes, below a module’s path', async () => {
    class Base {
      @Get('inherited/:id')
      @Version('2')
      async inherited(@Param('id') id: string): Promise<never> {
        throw new WrongTypeError(id, 'string');
      }
    }
    @Controller({ path: 'one', scope: Scope.REQUEST })
    class OneController extends Base {
      constructor(@Inject(REQUEST) readonly request: unknown) {
        super();
      }
    }
    @Controller({ path: 'two', version: '2' })
    class TwoController extends Base {
      @Get('own')
      own(): never {
        throw unavailable();
      }
      override async inherited(id: string): Promise<never> {
        try {
          return await super.inherited(`${id}!`);
        } catch (error) {
          // It has left no route yet.
          expect(error).not.toBeInstanceOf(HttpException);
          throw error;
        }
      }
    }
    Get('inherited/:id')(
      TwoController.prototype,
      'inherited',
      Object.getOwnPropertyDescriptor(TwoController.prototype, 'inherited')!,
    );
    Param('id')(TwoController.prototype, 'inherited', 0);
    @Module({ controllers: [OneController, TwoController] })
    class FeatureModule {}
    await start({
      after: [FeatureModule, RouterModule.register([{ path: 'feature', module: FeatureModule }])],
      controllers: [],
      configure: (one) => {
        one.enableVersioning({ type: VersioningType.URI });
        useGlobal(one);
      },
    });
    for (const path of ['one/inherited/x', 'two/inherited/x'])
      expect((await ask(app!, `/v2/feature/${path}`)).body).toMatchObject({
        said: { code: 'WRONG_TYPE', status: 500 },
      });
    expect(await ask(app!, '/v2/feature/two/own')).toMatchObject({ status: 503, retryAfter: '1' });
  });

  it('[ERR-1] exist in methods that a mixin copied and in a class behind a Proxy, with their parameters', async () => {
    class Mixed {
      @Get(':id')
      async mixed(@Param('id') id: string): Promise<never> {
        throw new CounterLimitError(id, 3, 1, 3);
      }
    }
    @Controller('copied')
    class CopyController {}
    for (const name of ['constructor', 'mixed']) {
      const descriptor = Object.getOwnPropertyDescriptor(Mixed.prototype, name)!;
      Object.defineProperty(CopyController.prototype, name, descriptor);
    }
    const behindProxy = <T extends object>(type: T): T => new Proxy(type, {});
    @Controller('proxied')
    @behindProxy
    class ProxiedController extends Mixed {
      @Get('own/:id')
      async own(@Param('id') id: string): Promise<never> {
        throw new CounterLimitError(id, 3, 1, 3);
      }
    }
    const keys: unknown[] = [];
    class Spy implements NestInterceptor {
      intercept(_: unknown, next: CallHandler): Observable<unknown> {
        return next.handle().pipe(
          catchError((error: unknown) => {
            keys.push(error instanceof CounterLimitError && error.key);
            return throwError(() => error);
          }),
        );
      }
    }
    await start({
      controllers: [CopyController, ProxiedController],
      configure: (one) => void one.useGlobalInterceptors(new Spy()),
    });
    for (const path of ['copied/a', 'proxied/b', 'proxied/own/c'])
      expect(await ask(app!, `/${path}`)).toMatchObject({ status: 409, body: { code: 'COUNTER_LIMIT' } });
    expect(keys).toEqual(['a', 'b', 'c']);
  });

  it('[ERR-1] come from the module’s own filter for errors of guards and interceptors', async () => {
    class Guard implements CanActivate {
      canActivate(): boolean {
        throw unavailable();
      }
    }
    class Interceptor implements NestInterceptor {
      intercept(): never {
        throw unavailable();
      }
    }
    @Controller()
    class LayeredController {
      @Get('guard')
      @UseGuards(Guard)
      guard(): void {}
      @Get('interceptor')
      @UseInterceptors(Interceptor)
      interceptor(): void {}
    }
    const logger = new Errors();
    await start({ controllers: [LayeredController], logger });
    for (const path of ['guard', 'interceptor']) {
      const answer = await ask(app!, `/${path}`);
      expect(answer).toMatchObject({ status: 503, retryAfter: '1', body: { code: 'REDIS_UNAVAILABLE' } });
      expect(answer.contentType).toContain('application/problem+json');
    }
    expect(logger.lines).toHaveLength(2);
  });

  it.each(['own', 'none'])('[ERR-3] log a 5xx once and a 4xx never (filter: %s)', async (filter) => {
    @Controller()
    class LoggedController {
      @Get('503')
      async unavailable(): Promise<never> {
        throw unavailable();
      }
      @Get('409')
      async conflict(): Promise<never> {
        throw new TransactionConflictError(['key'], 5, 10);
      }
    }
    const logger = new Errors();
    await start({ controllers: [LoggedController], logger, options: { exceptionFilter: filter === 'own' } });
    await ask(app!, '/409');
    expect(logger.lines).toEqual([]);
    const { body } = await ask(app!, '/503');
    expect(logger.lines).toEqual([`Redis at secret:6379 was away (${body.instance})`]);
    expect(body.instance).toMatch(/^urn:uuid:[0-9a-f-]{36}$/);
    expect((await ask(app!, '/503')).body.instance).not.toBe(body.instance);
  });

  it('[ERR-4] have the problem type that their application chose, even beside another one with the same controllers', async () => {
    const startWith = (options: Record<string, unknown>): Promise<INestApplication> =>
      startApp({ platform, controllers: [EdgeController], providers: [Accounts], options });
    const apps = [
      await startWith({}),
      await startWith({ problemType: 'https://shop.example/problems' }),
      await startWith({ problemType: 'about:blank', exceptionFilter: false }),
    ];
    try {
      const answers = await Promise.all(apps.map((one) => ask(one, '/edge/rejects')));
      expect(answers.map(({ body }) => body.type as string)).toEqual([
        expect.stringMatching(/^https:.*\/docs\/errors\.md#REDIS_UNAVAILABLE$/),
        'https://shop.example/problems#REDIS_UNAVAILABLE',
        'about:blank',
      ]);
    } finally {
      await Promise.all(apps.map((one) => one.close()));
    }
  });

  it('[ERR-1] exist with several registrations, and in a TestingModule', async () => {
    const connection = 'redis://127.0.0.1:1';
    const module = await Test.createTestingModule({
      imports: [
        AtomicRedisModule.forRoot({
          connection,
          namespace: 'atomic:',
          lazyConnect: true,
          name: 'second',
          problemType: 'https://second.example',
        }),
        AtomicRedisModule.forRootAsync({
          useFactory: () => ({
            connection,
            namespace: 'atomic:',
            lazyConnect: true,
            problemType: 'https://first.example',
          }),
        }),
      ],
      controllers: [EdgeController],
      providers: [Accounts, appFilter],
    }).compile();
    module.useLogger(false);
    const { FastifyAdapter } = await import('@nestjs/platform-fastify');
    app =
      platform === 'fastify'
        ? module.createNestApplication(new FastifyAdapter())
        : module.createNestApplication();
    await app.listen(0, '127.0.0.1');
    expect(await ask(app, '/edge/rejects')).toMatchObject({
      status: 503,
      retryAfter: '1',
      body: { type: 'https://first.example#REDIS_UNAVAILABLE' },
    });
  });

  it('[ERR-1] do not exist for messages and for calls by other code', async () => {
    @Controller()
    class HybridController {
      @Post('both')
      @MessagePattern('both')
      async both(@Optional() given?: unknown): Promise<never> {
        throw Object.assign(new TransactionConflictError(['key'], 5, 10), { given });
      }
    }
    class NoServer extends Server {
      listen(ready: () => void): void {
        ready();
      }
      close(): void {}
      on(): void {}
      unwrap(): never {
        throw new Error('there is none');
      }
    }
    const server = new NoServer();
    const seen: unknown[] = [];
    class Spy implements NestInterceptor {
      intercept(_: unknown, next: CallHandler): Observable<unknown> {
        return next.handle().pipe(
          catchError((error: unknown) => {
            seen.push(error);
            return throwError(() => error);
          }),
        );
      }
    }
    UseInterceptors(Spy)(HybridController);
    await start({
      controllers: [HybridController],
      configure: async (one) => {
        one.connectMicroservice({ strategy: server }, { inheritAppConfig: true });
      },
    });
    expect(await ask(app!, '/both', { method: 'POST' })).toMatchObject({ status: 409 });
    const direct = await app!
      .get(HybridController)
      .both('given')
      .catch((error: unknown) => error);
    expect(direct).not.toBeInstanceOf(HttpException);
    expect(direct).toMatchObject({ given: 'given' });
    const reply = await server.getHandlerByPattern('both')!('sent', {});
    const answered = await lastValueFrom(from(reply as Observable<unknown>)).catch((error: unknown) => error);
    expect(answered).toMatchObject({ status: 'error', code: 'TRANSACTION_CONFLICT' });
    expect(seen.map((error) => error instanceof HttpException)).toEqual([true, false]);
  });
});
