import {
  Catch,
  HttpException,
  Module,
  type ArgumentsHost,
  type DynamicModule,
  type ExceptionFilter,
  type INestApplication,
  type LoggerService,
  type Provider,
  type Type,
} from '@nestjs/common';
import { HttpAdapterHost, NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { AddressInfo } from 'node:net';
import { AtomicRedisModule } from 'nestjs-atomic-redis';

/** The filter of Nest's documentation, "Catch everything". */
@Catch()
export class CatchEverythingFilter implements ExceptionFilter {
  constructor(private readonly adapterHost: HttpAdapterHost) {}

  catch(exception: unknown, host: ArgumentsHost): void {
    const { httpAdapter } = this.adapterHost;
    const status = exception instanceof HttpException ? exception.getStatus() : 500;
    const body = {
      statusCode: status,
      said: exception instanceof HttpException ? exception.getResponse() : 'nothing',
    };
    httpAdapter.reply(host.switchToHttp().getResponse(), body, status);
  }
}

export interface Parts {
  readonly platform: string;
  readonly controllers: Type[];
  readonly providers?: Provider[];
  /** Before and after the library's module. */
  readonly before?: (Type | DynamicModule)[];
  readonly after?: (Type | DynamicModule)[];
  readonly options?: Record<string, unknown>;
  readonly configure?: (app: INestApplication) => void | Promise<void>;
  readonly logger?: LoggerService;
}

/** An application as `main.ts` makes it. */
export async function startApp({
  platform,
  controllers,
  providers = [],
  ...more
}: Parts): Promise<INestApplication> {
  const { before = [], after = [], options = {}, configure, logger } = more;
  @Module({
    imports: [
      ...before,
      AtomicRedisModule.forRoot({
        connection: 'redis://127.0.0.1:1',
        namespace: 'atomic:',
        lazyConnect: true,
        ...options,
      }),
      ...after,
    ],
    controllers,
    providers,
  })
  class AppModule {}
  const given = { logger: logger ?? (false as const), abortOnError: false };
  const app: INestApplication =
    platform === 'fastify'
      ? await NestFactory.create<NestFastifyApplication>(AppModule, new FastifyAdapter(), given)
      : await NestFactory.create(AppModule, given);
  await configure?.(app);
  await app.listen(0, '127.0.0.1');
  return app;
}

export const urlOf = (app: INestApplication): string =>
  `http://127.0.0.1:${(app.getHttpServer() as { address(): AddressInfo }).address().port}`;

/** The fields that the tests read. */
export interface Body {
  readonly code?: string;
  readonly type?: string;
  readonly instance?: string;
  readonly said?: Body;
}

export interface Answer {
  readonly status: number;
  readonly retryAfter: string | null;
  readonly contentType: string;
  readonly body: Body;
}

export async function ask(app: INestApplication, path: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(`${urlOf(app)}${path}`, { signal: AbortSignal.timeout(30_000), ...init });
  const text = await response.text();
  return {
    status: response.status,
    retryAfter: response.headers.get('retry-after'),
    contentType: response.headers.get('content-type') ?? '',
    body: text.startsWith('{') ? (JSON.parse(text) as Body) : (text as Body),
  };
}

/** Keeps what is logged as errors. */
export class Errors implements LoggerService {
  readonly lines: string[] = [];
  log(): void {}
  warn(): void {}
  error(message: unknown): void {
    this.lines.push(String(message));
  }
}
