import { EventEmitter } from 'node:events';
import { get as httpGet, type IncomingMessage, type ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import {
  Body,
  Controller,
  Get,
  Injectable,
  Logger,
  Param,
  Post,
  Req,
  Res,
  UseGuards,
  UseInterceptors,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
  type NestInterceptor,
  type Type,
} from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { Idempotent, isIdempotentReplay, type AtomicRedisOptions } from 'nestjs-atomic-redis';
import {
  concat,
  finalize,
  from,
  fromEvent,
  lastValueFrom,
  map,
  mergeMap,
  of,
  take,
  tap,
  type Observable,
} from 'rxjs';
import { startFaultProxy } from 'nestjs-atomic-redis/testing';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { PLATFORMS, send, startApp, type AnyRequest, type HttpApp } from './http-app.js';

interface AnyResponse extends ServerResponse {
  readonly raw?: ServerResponse;
  status(code: number): AnyResponse;
  header(name: string, value: string): AnyResponse;
  send(body: unknown): unknown;
}

let runs = 0;
let gate: Promise<void> = Promise.resolve();
const seen: unknown[] = [];
const emitter = new EventEmitter();

const interceptor = (
  intercept: (
    next: CallHandler,
    context: ExecutionContext,
  ) => Observable<unknown> | Promise<Observable<unknown>>,
): Type<NestInterceptor> => {
  class Intercepting implements NestInterceptor {
    intercept(
      context: ExecutionContext,
      next: CallHandler,
    ): Observable<unknown> | Promise<Observable<unknown>> {
      return intercept(next, context);
    }
  }
  return Intercepting;
};

/** Interceptors that call `handle()` elsewhere than in `intercept` itself. */
const CALLS_HANDLE: Record<string, Type<NestInterceptor>> = {
  'in an operator': interceptor((next) =>
    from(Promise.resolve('tenant')).pipe(mergeMap(() => next.handle())),
  ),
  'in the event of an emitter that lost the context': interceptor((next) => {
    const handled = fromEvent(emitter, 'go').pipe(
      take(1),
      mergeMap(() => next.handle()),
    );
    goLater();
    return handled;
  }),
  'after awaiting something': interceptor(async (next) => {
    await Promise.resolve();
    return next.handle();
  }),
  'as a promise': interceptor(async (next) =>
    of(await lastValueFrom(next.handle(), { defaultValue: undefined })),
  ),
  twice: interceptor((next) => concat(next.handle(), next.handle())),
  'twice at once': interceptor((next) =>
    from(Promise.all([lastValueFrom(next.handle()), lastValueFrom(next.handle())])).pipe(map(([one]) => one)),
  ),
};

const pending: (() => void)[] = [];
// Rings outside of every request.
const bell = setInterval(() => pending.splice(0).forEach((ring) => ring()), 10);
const goLater = (): void => void pending.push(() => emitter.emit('go'));

@Injectable()
class User implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<AnyRequest & { user?: unknown }>();
    request.user = { id: request.headers['x-user'] ?? 'ada' };
    return true;
  }
}

@Controller('handle')
@UseGuards(User)
class HandleController {}

Object.values(CALLS_HANDLE).forEach((calling, i) => {
  for (const place of ['above', 'below'] as const) {
    const prototype = HandleController.prototype as Record<string, unknown>;
    const name = `${place}${i}`;
    prototype[name] = (body: { order: string }, request: { user: { id: string } }) => ({
      run: ++runs,
      of: request.user.id,
      order: body.order,
    });
    const descriptor = Object.getOwnPropertyDescriptor(prototype, name)!;
    Body()(prototype, name, 0);
    Req()(prototype, name, 1);
    const idempotent = Idempotent({ key: (body: { order: string }) => body.order });
    if (place === 'above') idempotent(prototype, name, descriptor as never);
    UseInterceptors(calling)(prototype, name, descriptor);
    if (place === 'below') idempotent(prototype, name, descriptor as never);
    Post(name)(prototype, name, descriptor);
    Object.defineProperty(prototype, name, descriptor);
  }
});

/**
 * A decorator of another library: it wraps the method, and copies its metadata but not its name.
 */
const Logged = (): MethodDecorator => (_target, _key, descriptor) => {
  const method = descriptor.value as (...args: unknown[]) => unknown;
  const wrapped = function (this: unknown, ...args: unknown[]): unknown {
    return Reflect.apply(method, this, args);
  };
  for (const key of Reflect.getMetadataKeys(method))
    Reflect.defineMetadata(key, Reflect.getMetadata(key, method), wrapped);
  descriptor.value = wrapped as never;
};

@Controller()
class AroundController {
  @Post('viewed')
  @UseInterceptors(
    interceptor((next) => next.handle().pipe(map((order) => ({ data: (order as { id: number }).id })))),
    interceptor((next) => next.handle().pipe(tap((order) => seen.push(order)))),
    interceptor((next, context) =>
      next.handle().pipe(finalize(() => seen.push(isIdempotentReplay(context) ? 'replay' : 'first'))),
    ),
  )
  @Idempotent()
  viewed(): object {
    return { id: ++runs };
  }

  @Post('promised')
  @UseInterceptors(
    interceptor(async (next) => of({ data: ((await lastValueFrom(next.handle())) as { id: number }).id })),
  )
  @Idempotent()
  promised(): object {
    return { id: ++runs };
  }

  @Post('logged-above')
  @Logged()
  @Idempotent()
  loggedAbove(@Res() response: AnyResponse): void {
    response.status(201).send({ run: ++runs });
  }

  @Post('logged-below')
  @Idempotent()
  @Logged()
  loggedBelow(@Res() response: AnyResponse): void {
    response.status(201).send({ run: ++runs });
  }

  @Post('slow')
  @Idempotent()
  async slow(): Promise<object> {
    runs++;
    await gate;
    return { run: runs };
  }

  @Get('report/:id')
  @Idempotent({ key: (id: string) => id })
  async report(@Param('id') id: string): Promise<object> {
    return { id, run: ++runs };
  }

  @Post('partial')
  @Idempotent()
  partial(@Res() response: AnyResponse): void {
    runs++;
    response.status(206).header('Content-Range', 'bytes 0-3/9');
    response.send('part');
  }

  @Post('precondition')
  @Idempotent()
  precondition(@Res() response: AnyResponse): void {
    response.status(412).send({ run: ++runs });
  }

  @Post('gzipped')
  @Idempotent()
  gzipped(@Res() response: AnyResponse): void {
    response.status(201).header('Content-Encoding', 'gzip').header('ETag', '"strong"');
    response.header('Vary', 'Accept-Encoding').header('Content-Type', 'text/plain');
    response.send(gzipSync(`run ${++runs}`));
  }

  @Post('odd-coding')
  @Idempotent()
  oddCoding(@Res() response: AnyResponse): void {
    runs++;
    response
      .status(201)
      .header('Content-Encoding', 'x-own')
      .header('Content-Type', 'text/plain')
      .send('bytes');
  }

  @Post('headers')
  @Idempotent({ replayHeaders: ['X-Order'] })
  headers(@Res({ passthrough: true }) response: AnyResponse): object {
    response.header('X-Order', '7').header('X-Module', 'm').header('X-Other', 'o');
    response.header('Content-Location', '/orders/7').header('Vary', 'Accept');
    return { run: ++runs };
  }
}

/** Answers a request of its choice after a while, as time-out middleware does. */
function answersAfter(
  ms: number,
): (request: IncomingMessage, response: ServerResponse, next: () => void) => void {
  return (request, response, next) => {
    if (request.headers['x-time-out']) {
      setTimeout(() => {
        if (!response.headersSent) response.writeHead(503, { 'Content-Length': 4 }).end('slow');
      }, ms);
    }
    next();
  };
}

afterAll(() => clearInterval(bell));

describe.each(PLATFORMS)('the surroundings of an idempotent route on %s', (platform) => {
  const redis = useRedis();
  let http: HttpApp;
  const logged: unknown[] = [];
  const stray: unknown[] = [];
  const noteStray = (reason: unknown): void => void stray.push(reason);

  const start = async (
    options: Partial<AtomicRedisOptions> = {},
    configure?: (app: INestApplication) => void,
    providers: { provide: string; useClass: Type }[] = [],
  ): Promise<void> => {
    http = await startApp(
      platform,
      { connection: redis.server.url, ...options },
      { controllers: [HandleController, AroundController], providers, ...(configure && { configure }) },
    );
    Logger.overrideLogger({ log() {}, warn() {}, error: (message: unknown) => logged.push(message) });
  };

  beforeEach(() => {
    runs = 0;
    gate = Promise.resolve();
    seen.length = 0;
    logged.length = 0;
    process.on('unhandledRejection', noteStray).on('uncaughtException', noteStray);
  });

  afterEach(async () => {
    await http.app.close();
    Logger.overrideLogger(false);
    process.off('unhandledRejection', noteStray).off('uncaughtException', noteStray);
    if (stray.length > 0) throw new Error('stray errors', { cause: stray.splice(0) });
  });

  describe.each(Object.keys(CALLS_HANDLE))('an interceptor that calls handle() %s', (how) => {
    it.each(['above', 'below'])(
      '[ID-32] changes neither the caller nor the number of runs, with the decorator %s it',
      async (place) => {
        await start();
        const path = `/handle/${place}${Object.keys(CALLS_HANDLE).indexOf(how)}`;
        const order = (user: string, body: object = {}) =>
          send(http, path, { headers: { 'x-user': user }, body: { order: 'o1', ...body } });
        const first = await order('ada');
        expect(first).toEqual({ status: 201, body: '{"run":1,"of":"ada","order":"o1"}', replayed: false });
        expect(await order('ada')).toEqual({ ...first, replayed: true });
        expect(await order('bob')).toMatchObject({ body: '{"run":2,"of":"bob","order":"o1"}' });
        expect(await order('ada', { cents: 5 })).toMatchObject({ status: 422 });
        expect(runs).toBe(2);
      },
    );
  });

  it('[ID-32] interceptors above see no value on a replay, can detect it, and log no error', async () => {
    await start();
    const first = await send(http, '/viewed');
    expect(first).toEqual({ status: 201, body: '{"data":1}', replayed: false });
    expect(await send(http, '/viewed')).toEqual({ ...first, replayed: true });
    expect(await send(http, '/promised')).toMatchObject({ body: '{"data":2}', replayed: false });
    expect(await send(http, '/promised')).toMatchObject({ body: '{"data":2}', replayed: true });
    expect(seen).toEqual([{ id: 1 }, 'first', 'replay']);
    expect(logged).toEqual([]);
  });

  it('[ID-32] a global interceptor sees no value on a replay either', async () => {
    const global = interceptor((next) =>
      next.handle().pipe(map((value) => ({ ...(value as object), at: 1 }))),
    );
    await start({}, (app) => void app.useGlobalInterceptors(new global()), [
      { provide: APP_INTERCEPTOR, useClass: global },
    ]);
    const first = await send(http, '/slow');
    expect(await send(http, '/slow')).toEqual({ ...first, replayed: true });
    expect(logged).toEqual([]);
  });

  it.each(['/logged-above', '/logged-below'])(
    '[ID-32] a decorator that wraps the method under another name changes nothing: %s',
    async (path) => {
      await start();
      const first = await send(http, path);
      expect(await send(http, path)).toEqual({ ...first, replayed: true });
      expect(runs).toBe(1);
    },
  );

  it('[ID-32] a route that other code calls without a request is refused', async () => {
    await start();
    const controller = http.app.get(AroundController);
    await expect(Promise.resolve(controller.report('7'))).rejects.toMatchObject({ code: 'CONFIGURATION' });
    await expect(controller.slow()).rejects.toThrow(/without the request that Nest calls it for/);
    expect(runs).toBe(0);
  });

  it('[ID-30] a response that ended before the claim was answered stays unchanged, and the process survives', async () => {
    const proxy = await startFaultProxy({ target: redis.server.url });
    await start({ connection: proxy.url }, (app) =>
      platform === 'express'
        ? void app.use(answersAfter(100))
        : (app.getHttpAdapter().getInstance() as { addHook(name: string, hook: unknown): void }).addHook(
            'onRequest',
            (request: { raw: IncomingMessage }, reply: { raw: ServerResponse }, done: () => void) =>
              answersAfter(100)(request.raw, reply.raw, done),
          ),
    );
    await send(http, '/slow', { headers: { 'idempotency-key': 'warm' } });
    proxy.delay({ replyMs: 250 });
    const first = await send(http, '/slow', { headers: { 'x-time-out': '1' } });
    expect(first).toEqual({ status: 503, body: 'slow', replayed: false });
    const again = await waitFor('the run to end', async () => {
      const answer = await send(http, '/slow');
      return !answer.body.includes('IN_FLIGHT') && answer;
    });
    expect(JSON.parse(again.body)).toMatchObject({ code: 'IDEMPOTENCY_RESULT_UNAVAILABLE' });
    expect(runs).toBe(2);
    await proxy.stop();
  });

  it('[ID-33] a 206 is not replayed, and a 412 releases the key', async () => {
    await start();
    expect(await send(http, '/partial')).toMatchObject({ status: 206, body: 'part' });
    expect(JSON.parse((await send(http, '/partial')).body)).toMatchObject({
      code: 'IDEMPOTENCY_RESULT_UNAVAILABLE',
    });
    expect(await send(http, '/precondition')).toMatchObject({ status: 412, body: '{"run":2}' });
    expect(await send(http, '/precondition')).toMatchObject({ status: 412, body: '{"run":3}' });
  });

  it('[ID-33] a HEAD is not replayed to a GET, and keeps its own length', async () => {
    await start();
    const ask = async (method: string): Promise<unknown[]> => {
      const response = await fetch(`http://127.0.0.1:${http.port}/report/7`, { method });
      await response.text();
      return [response.status, response.headers.get('content-length'), response.headers.get('etag')];
    };
    const [, length, etag] = await ask('HEAD');
    expect(Number(length)).toBeGreaterThan(0);
    expect(await ask('HEAD')).toEqual([200, null, etag]);
    expect((await ask('GET'))[0]).toBe(422);
    expect(runs).toBe(1);
  });

  if (platform === 'express') {
    it('[ID-33] a 304 is not replayed to a client with nothing cached', async () => {
      await start();
      // fetch() would ask not to be answered from a cache.
      const get = (headers: Record<string, string>): Promise<number | undefined> =>
        new Promise((resolve) =>
          httpGet({ port: http.port, host: '127.0.0.1', path: '/report/7', headers }, (response) => {
            resolve(response.resume().statusCode);
          }),
        );
      expect(await get({ 'if-none-match': '*' })).toBe(304);
      expect(await get({})).toBe(409);
      expect(runs).toBe(1);
    });
  }

  it('[ID-33] encoded bytes are decoded for a client that does not accept the encoding', async () => {
    await start();
    const post = (acceptEncoding: string) =>
      fetch(`http://127.0.0.1:${http.port}/gzipped`, {
        method: 'POST',
        headers: { 'idempotency-key': 'k', 'accept-encoding': acceptEncoding },
      });
    const texts: unknown[] = [];
    for (const accepted of ['gzip', 'br, gzip;q=0.5', '*', 'identity', 'gzip;q=0, *', '']) {
      const response = await post(accepted);
      texts.push([
        await response.text(),
        response.headers.get('content-encoding'),
        response.headers.get('etag'),
      ]);
    }
    const encoded = ['run 1', 'gzip', '"strong"'];
    const decoded = ['run 1', null, 'W/"strong"'];
    expect(texts).toEqual([encoded, encoded, encoded, decoded, decoded, decoded]);
  });

  it('[ID-33] bytes in an unknown encoding are not kept', async () => {
    await start();
    expect(await send(http, '/odd-coding')).toMatchObject({ status: 201, body: 'bytes' });
    expect(await send(http, '/odd-coding')).toMatchObject({ status: 409, replayed: false });
    expect(runs).toBe(1);
  });

  it('[ID-33] a replay has the headers that the application adds to the list, and merges Vary', async () => {
    await start({ idempotency: { replayHeaders: ['x-module'] } }, (app) => app.enableCors({ origin: true }));
    const post = async () => {
      const { headers } = await fetch(`http://127.0.0.1:${http.port}/headers`, {
        method: 'POST',
        headers: { 'idempotency-key': 'k', origin: 'http://one.example' },
      });
      return ['x-order', 'x-module', 'x-other', 'content-location'].map((name) => headers.get(name));
    };
    expect(await post()).toEqual(['7', 'm', 'o', '/orders/7']);
    expect(await post()).toEqual(['7', 'm', null, '/orders/7']);
    const { headers } = await fetch(`http://127.0.0.1:${http.port}/headers`, {
      method: 'POST',
      headers: { 'idempotency-key': 'k', origin: 'http://one.example' },
    });
    const varies = headers
      .get('vary')!
      .split(/, */)
      .map((name) => name.toLowerCase());
    expect(varies.toSorted()).toEqual([...new Set(varies)].toSorted());
    expect(varies).toContain('accept');
  });
});

describe('the option replayHeaders', () => {
  it.each([['Set-Cookie'], ['x-request-id'], ['Content-Length'], ['not a name'], [7]])(
    '[ID-33] %p is refused',
    (name) => {
      expect(() => Idempotent({ replayHeaders: [name as string] })).toThrow(/replayHeaders\[0\] must be/);
    },
  );
});
