import { AsyncResource } from 'node:async_hooks';
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import fastifyCompress from '@fastify/compress';
import fastifyStatic from '@fastify/static';
import {
  Catch,
  ConflictException,
  Controller,
  GatewayTimeoutException,
  Get,
  Module,
  Param,
  Post,
  Req,
  RequestTimeoutException,
  Res,
  UseFilters,
  UseGuards,
  UseInterceptors,
  type ArgumentsHost,
  type CallHandler,
  type CanActivate,
  type ExceptionFilter,
  type ExecutionContext,
  type INestApplication,
  type NestInterceptor,
  type Type,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import compression from 'compression';
import { AtomicRedisModule, Idempotent } from 'nestjs-atomic-redis';
import {
  catchError,
  combineLatest,
  concat,
  defer,
  from,
  lastValueFrom,
  map,
  mergeMap,
  Observable,
  of,
  retry,
  Subscription,
  switchMap,
  takeLast,
  tap,
} from 'rxjs';
import { MAX_RESULT_BYTES, POLICIES, type InterceptorKind, type Policy, type RouteShape } from './cases.js';
import { DomainError, FILES, performed, type AnyReply } from './handler.js';
import { scriptOf, type Script } from './script.js';

export type Platform = 'express' | 'fastify';

interface AnyRequest {
  readonly headers: IncomingHttpHeaders;
}

export interface PropertyApp {
  readonly port: number;
  close(): Promise<void>;
}

export const pathOf = ({ takes, stream, onError, onResponse }: RouteShape): string =>
  `/${takes}-${stream ? 'flowing' : 'held'}-${onError}-${onResponse}`;

/** An application with a route of every shape; with the decorator, or as it would be without. */
export async function startPropertyApp(
  platform: Platform,
  connection: string,
  isIdempotent: boolean,
): Promise<PropertyApp> {
  const controllers: Type[] = [NextController];
  for (const takes of ['nothing', 'response', 'passthrough'] as const)
    for (const stream of [false, true])
      for (const onError of ['default', ...POLICIES] as const)
        for (const onResponse of ['default', ...POLICIES] as const)
          controllers.push(controllerOf({ takes, stream, onError, onResponse }, isIdempotent));

  @Module({
    imports: [
      AtomicRedisModule.forRoot({
        connection,
        namespace: 'atomic:',
        shutdownTimeoutMs: 100,
        // Long enough for a busy machine, whose delays are not under test.
        timeoutMs: 60_000,
        idempotency: { maxResultBytes: MAX_RESULT_BYTES, timeoutMs: 10_000 },
      }),
    ],
    controllers,
  })
  class PropertyModule {}

  const app = platform === 'fastify' ? await fastifyApp(PropertyModule) : await expressApp(PropertyModule);
  await app.listen(0, '127.0.0.1');
  const { port } = (app.getHttpServer() as { address(): AddressInfo }).address();
  return {
    port,
    close: async () => {
      (app.getHttpServer() as { closeAllConnections(): void }).closeAllConnections();
      await app.close();
    },
  };
}

async function expressApp(module: Type): Promise<INestApplication> {
  const app = await NestFactory.create(module, { logger: false });
  const compressed = ({ headers }: AnyRequest) => scriptOf(headers)?.plan.around.compress === true;
  app.use(compression({ threshold: 100, filter: compressed }));
  app.use((request: AnyRequest, response: ServerResponse, next: () => void) => {
    enter(request, response);
    next();
  });
  return app;
}

async function fastifyApp(module: Type): Promise<INestApplication> {
  const app = await NestFactory.create(module, new FastifyAdapter(), { logger: false });
  const fastify = app.getHttpAdapter().getInstance() as {
    addHook(name: string, hook: (request: AnyRequest, reply: { raw: ServerResponse }) => Promise<void>): void;
    register(plugin: unknown, options: object): unknown;
  };
  fastify.addHook('onRequest', async (request, { raw }) => enter(request, raw));
  await fastify.register(fastifyStatic, { root: FILES, serve: false });
  await fastify.register(fastifyCompress, { threshold: 100 });
  return app;
}

/** Middleware that answers in the handler's place when the handler takes too long. */
function enter(request: AnyRequest, raw: ServerResponse): void {
  const script = scriptOf(request.headers);
  script?.enter(raw);
  if (script?.phase !== 'first' || !script.plan.around.answersAtPoint) return;
  script.onPoint(() => {
    if (raw.headersSent) return;
    raw.statusCode = 503;
    raw.end('too slow');
  });
}

/** Does the work of middleware behind Fastify's hooks, which would not continue. */
class BeforeGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const script = scriptOf(context.switchToHttp().getRequest<AnyRequest>().headers)!;
    const { raw } = script;
    if (script.phase !== 'first' || !raw) return true;
    const end = () => {
      if (raw.headersSent) return;
      raw.statusCode = 503;
      raw.end('answered before');
    };
    const { before } = script.plan.around;
    if (before === 'ends') end();
    if (before === 'ends-soon') setImmediate(end);
    if (before === 'begins') {
      raw.statusCode = 200;
      raw.write('begun before');
    }
    return true;
  }
}

class ScriptInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const script = scriptOf(context.switchToHttp().getRequest<AnyRequest>().headers)!;
    return script.plan.around.interceptors
      .toReversed()
      .reduce<CallHandler>(
        (inner, kind) => ({ handle: () => defer(() => AROUND[kind](inner, script)) }),
        next,
      )
      .handle();
  }
}

/** Imitates code that calls back from a pool created at start-up. */
const elsewhere = new AsyncResource('elsewhere');

const failing = (error: Error) =>
  map(() => {
    throw error;
  });

/** The first request only is timed out or answered instead. */
const onlyFirst =
  (then: Around): Around =>
  (next, script) =>
    script.phase === 'first' ? then(next, script) : next.handle();

type Around = (next: CallHandler, script: Script) => Observable<unknown>;

const AROUND: Readonly<Record<InterceptorKind, Around>> = {
  tap: (next) => next.handle().pipe(tap(() => undefined)),
  map: (next) => next.handle().pipe(map((value) => (isPlain(value) ? { data: value } : value))),
  'map-throws-500': (next) => next.handle().pipe(failing(new Error('mapping failed'))),
  'map-throws-409': (next) => next.handle().pipe(failing(new ConflictException('mapping failed'))),
  'timeout-408': onlyFirst((next, script) => timedOut(script, next, new RequestTimeoutException())),
  'timeout-504': onlyFirst((next, script) => timedOut(script, next, new GatewayTimeoutException())),
  retry: (next) => next.handle().pipe(retry(1)),
  catch: onlyFirst((next) => next.handle().pipe(catchError(() => of({ fallback: true })))),
  operator: (next) => of(undefined).pipe(switchMap(() => next.handle())),
  later: (next) => from(turn()).pipe(mergeMap(() => next.handle())),
  promise: (next) => from(lastValueFrom(next.handle(), { defaultValue: undefined })),
  'promise-strict': (next) => from(lastValueFrom(next.handle())),
  'lost-context': (next) =>
    new Observable((subscriber) => elsewhere.runInAsyncScope(() => next.handle().subscribe(subscriber))),
  twice: (next) => concat(next.handle(), next.handle()).pipe(takeLast(1)),
  together: (next) => combineLatest([next.handle(), next.handle()]).pipe(map(([, second]) => second)),
};

const isPlain = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;

/** Fails in the handler's place when the handler is at its point, as `timeout` of rxjs does. */
const timedOut = (script: Script, next: CallHandler, error: Error): Observable<unknown> =>
  new Observable((subscriber) => {
    // Subscribed first: a handler may be at its point before it returns.
    const handled = new Subscription();
    script.onPoint(() => {
      handled.unsubscribe();
      subscriber.error(error);
    });
    handled.add(
      next.handle().subscribe({
        next: (value) => subscriber.next(value),
        error: (failure: unknown) => subscriber.error(failure),
        complete: () => subscriber.complete(),
      }),
    );
    return handled;
  });

@Catch(DomainError)
class DomainErrorFilter implements ExceptionFilter {
  catch(_: DomainError, host: ArgumentsHost): unknown {
    const http = host.switchToHttp();
    const status = scriptOf(http.getRequest<AnyRequest>().headers)?.plan.around.filterStatus ?? 500;
    const reply = http.getResponse<AnyReply>();
    if (reply.raw) return reply.status(status).send({ domain: 'no such order' });
    if ((reply as unknown as ServerResponse).headersSent) return (reply as unknown as ServerResponse).end();
    return reply.status(status).json({ domain: 'no such order' });
  }
}

@Controller()
class NextController {
  @Get('next/:number')
  next(@Param('number') number: string): object {
    return { next: number };
  }
}

function controllerOf(shape: RouteShape, isIdempotent: boolean): Type {
  class PropertyController {
    act(request: AnyRequest, reply?: AnyReply): Promise<unknown> {
      return performed(scriptOf(request.headers)!, reply);
    }
  }
  const { prototype } = PropertyController;
  const descriptor = Object.getOwnPropertyDescriptor(prototype, 'act')!;
  if (isIdempotent) Idempotent(optionsOf(shape))(prototype, 'act', descriptor);
  Post()(prototype, 'act', descriptor);
  Object.defineProperty(prototype, 'act', descriptor);
  Req()(prototype, 'act', 0);
  if (shape.takes !== 'nothing') Res({ passthrough: shape.takes === 'passthrough' })(prototype, 'act', 1);
  UseGuards(BeforeGuard)(PropertyController);
  UseInterceptors(ScriptInterceptor)(PropertyController);
  UseFilters(DomainErrorFilter)(PropertyController);
  Controller(pathOf(shape))(PropertyController);
  return PropertyController;
}

const optionsOf = ({ stream, onError, onResponse }: RouteShape): object => ({
  ...(stream && { stream }),
  ...(onError !== 'default' && { onError }),
  ...(onResponse !== 'default' && { onResponse: (): Policy => onResponse }),
});
