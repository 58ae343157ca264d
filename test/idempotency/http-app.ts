import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { DynamicModule, INestApplication, Provider, Type } from '@nestjs/common';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { AtomicRedisModule, type AtomicRedisOptions } from 'nestjs-atomic-redis';

export const PLATFORMS = ['express', 'fastify'] as const;

/** The properties of a raw request on both platforms. */
export type AnyRequest = Record<string, unknown> & { headers: IncomingHttpHeaders };

export interface HttpApp {
  readonly app: INestApplication;
  readonly port: number;
}

/**
 * An application with controllers under test; `prepare` sees each request before guards do, as
 * middleware would, and `configure` the application before it listens.
 */
export async function startApp(
  platform: string,
  options: Partial<AtomicRedisOptions>,
  parts: {
    controllers: Type[];
    providers?: Provider[];
    imports?: DynamicModule[];
    prepare?: (request: AnyRequest) => void;
    configure?: (app: INestApplication) => void;
  },
): Promise<HttpApp> {
  const { controllers, providers = [], imports = [], prepare = () => undefined, configure } = parts;
  const module = await Test.createTestingModule({
    imports: [
      AtomicRedisModule.forRoot({ namespace: 'atomic:', ...options } as AtomicRedisOptions),
      ...imports,
    ],
    controllers,
    providers,
  }).compile();
  module.useLogger(false);
  const app =
    platform === 'fastify'
      ? module.createNestApplication(new FastifyAdapter())
      : module.createNestApplication();
  if (platform === 'fastify') {
    const fastify = app.getHttpAdapter().getInstance() as {
      addHook(name: string, hook: (request: AnyRequest) => Promise<void>): void;
    };
    fastify.addHook('preHandler', async (request) => prepare(request));
  } else {
    app.use((request: AnyRequest, _: unknown, next: () => void) => {
      prepare(request);
      next();
    });
  }
  configure?.(app);
  await app.listen(0, '127.0.0.1');
  const { port } = (app.getHttpServer() as { address(): AddressInfo }).address();
  return { app, port };
}

export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly replayed: boolean;
}

/** Rejects when the connection breaks off, and after 5 seconds. */
export async function send(
  { port }: HttpApp,
  path: string,
  {
    method = 'POST',
    headers = {},
    body,
  }: { method?: string; headers?: Record<string, string>; body?: unknown } = {},
): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    signal: AbortSignal.timeout(5_000),
    headers: {
      'idempotency-key': 'k',
      ...(method === 'POST' && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(method === 'POST' && { body: JSON.stringify(body ?? {}) }),
  });
  return {
    status: response.status,
    body: await response.text(),
    replayed: response.headers.get('idempotency-replayed') === 'true',
  };
}

/** Sends a request and goes away once `when` has resolved. */
export async function sendAndLeave({ port }: HttpApp, path: string, when: Promise<unknown>): Promise<void> {
  const request = httpRequest({
    port,
    host: '127.0.0.1',
    path,
    method: 'POST',
    headers: { 'idempotency-key': 'k', 'content-type': 'application/json' },
  });
  request.on('error', () => undefined);
  request.end('{}');
  await when;
  request.destroy();
}
