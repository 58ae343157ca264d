import { EventEmitter } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import multipart from '@fastify/multipart';
import {
  Body,
  Controller,
  Logger,
  Post,
  UploadedFile,
  UseInterceptors,
  ValidationPipe,
  type ExecutionContext,
  type INestApplication,
} from '@nestjs/common';
import { FileInterceptor } from '@nestjs/platform-express';
import { Type } from 'class-transformer';
import { Allow, IsOptional } from 'class-validator';
import { Idempotent } from 'nestjs-atomic-redis';
import mocks from 'node-mocks-http';
import serverless from 'serverless-http';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { PLATFORMS, send, startApp, type AnyRequest, type HttpApp } from './http-app.js';

let runs = 0;

class OrderDto {
  @Allow()
  amount!: number;

  @IsOptional()
  @Type(() => Date)
  at?: Date;
}

/** A file as made by nestjs-form-data: in the body, with another path at each attempt. */
class StoredFile {
  constructor(
    readonly originalName: string,
    readonly size: number,
    readonly path: string,
    readonly buffer?: Buffer,
  ) {}

  get extension(): string {
    return this.originalName.split('.').at(-1)!;
  }
}

@Controller()
class ClientsController {
  @Post('orders')
  @Idempotent()
  create(@Body() _body: unknown): object {
    return { run: ++runs };
  }

  @Post('dto')
  @Idempotent({ fingerprint: (body: OrderDto) => body })
  dto(@Body() _body: OrderDto): object {
    return { run: ++runs };
  }

  @Post('optional')
  @Idempotent({ required: false })
  optional(): object {
    return { run: ++runs };
  }
}

@Controller()
class UploadsController {
  @Post('memory')
  @UseInterceptors(FileInterceptor('file'))
  @Idempotent()
  memory(@UploadedFile() _file: unknown): object {
    return { run: ++runs };
  }

  @Post('disk')
  @UseInterceptors(FileInterceptor('file', { dest: '/tmp/nestjs-atomic-redis-uploads' }))
  @Idempotent()
  disk(@UploadedFile() _file: unknown): object {
    return { run: ++runs };
  }
}

interface Sent {
  readonly status: number;
  readonly replayed: boolean;
}

async function sendForm({ port }: HttpApp, path: string, field: string, file: string): Promise<Sent> {
  const form = new FormData();
  form.append('note', field);
  form.append('tags', 'a');
  form.append('tags', 'b');
  form.append('file', new Blob([file]), 'a.txt');
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method: 'POST',
    headers: { 'idempotency-key': 'k' },
    body: form,
  });
  await response.text();
  return { status: response.status, replayed: response.headers.get('idempotency-replayed') === 'true' };
}

describe.each(PLATFORMS)('the requests of clients to %s', (platform) => {
  const redis = useRedis();
  let http: HttpApp;
  let error: jest.SpyInstance;

  const start = (
    prepare?: (request: AnyRequest) => void,
    configure?: (app: INestApplication) => void,
  ): Promise<HttpApp> =>
    startApp(
      platform,
      { connection: redis.server.url },
      { controllers: [ClientsController], ...(prepare && { prepare }), ...(configure && { configure }) },
    );

  beforeAll(async () => {
    http = await start(
      (request) => {
        const { 'set-key': key } = request.headers;
        if (key) request.headers['idempotency-key'] = String(key);
      },
      (app) => {
        app.useGlobalPipes(new ValidationPipe({ transform: true }));
        // Runs at the place of an interceptor of nestjs-form-data.
        app.useGlobalGuards({
          canActivate: (context: ExecutionContext) => {
            const request = context.switchToHttp().getRequest<AnyRequest>();
            const { 'set-file': file } = request.headers;
            if (file) request.body = { file: storedFile(String(file)) };
            return true;
          },
        });
      },
    );
  });

  beforeEach(() => {
    runs = 0;
    error = jest.spyOn(Logger.prototype, 'error').mockImplementation();
  });

  afterEach(() => void jest.restoreAllMocks());

  afterAll(() => http.app.close());

  /** The body as it stands. */
  async function sendText(path: string, body: string): Promise<Sent> {
    const response = await fetch(`http://127.0.0.1:${http.port}${path}`, {
      method: 'POST',
      headers: { 'idempotency-key': 'k', 'content-type': 'application/json' },
      body,
    });
    await response.text();
    return { status: response.status, replayed: response.headers.get('idempotency-replayed') === 'true' };
  }

  it.each([
    ['8,000 levels', '/orders', nested(8_000, '1'), nested(8_000, '2')],
    ['40,000 levels', '/orders', nested(40_000, '1'), nested(40_000, '2')],
    ['numbers beyond JavaScript’s range', '/orders', '{"a":1e999}', '{"a":-1e999}'],
    ['a DTO that a pipe has made', '/dto', '{"amount":1}', '{"amount":2}'],
    ['a date that a pipe has made', '/dto', '{"at":"2026-11-29"}', '{"at":"2026-11-30"}'],
    ['an invalid date', '/dto', '{"at":"soon"}', '{"at":"2026-11-30"}'],
    ['a DTO without properties', '/dto', '{}', '{"amount":2}'],
    ['properties of the language', '/orders', '{"toJSON":1,"valueOf":1}', '{"toJSON":1}'],
  ])('[ID-4] with %s are told apart, and errors are the client’s', async (_, path, one, other) => {
    expect(await sendText(path, one)).toEqual({ status: 201, replayed: false });
    expect(await sendText(path, one)).toEqual({ status: 201, replayed: true });
    expect(await sendText(path, other)).toEqual({ status: 422, replayed: false });
    expect(runs).toBe(1);
    expect(error).not.toHaveBeenCalled();
  });

  it('[ID-4] are compared by the content of a stored file in the body, not by its path', async () => {
    const sends = (file: string) => send(http, '/orders', { headers: { 'set-file': file } });
    expect(await sends('a')).toMatchObject({ status: 201, replayed: false });
    expect(await sends('a')).toMatchObject({ status: 201, replayed: true });
    expect(await sends('b')).toMatchObject({ status: 422 });
  });

  it('[ID-7] may get their key from middleware', async () => {
    for (const replayed of [false, true])
      expect(
        await send(http, '/optional', { headers: { 'idempotency-key': '', 'set-key': 'mine' } }),
      ).toMatchObject({
        status: 201,
        replayed,
      });
    expect(runs).toBe(1);
  });

  it('[ID-7] with two keys are refused before any command', async () => {
    const lines = [
      'Host: x',
      'Idempotency-Key: a',
      'idempotency-key: b',
      'Content-Length: 0',
      'Connection: close',
    ];
    const counts = await countCommands(redis.client, async () => {
      const socket = connect(http.port, '127.0.0.1');
      socket.write(`POST /orders HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
      const answer = await text(socket);
      expect(answer).toContain(' 400 ');
      expect(answer).toContain('2 Idempotency-Key headers');
    });
    expect(counts.evalsha).toBeUndefined();
  });

  it('[ID-7] have their key behind serverless-http, which keeps no raw headers', async () => {
    // A handler of its own for each event, as one process of AWS Lambda has.
    const lambda = serverless(http.app.getHttpAdapter().getInstance() as never) as (
      event: object,
      context: object,
    ) => Promise<{ statusCode: number; headers: Record<string, string> }>;
    const event = {
      httpMethod: 'POST',
      path: '/orders',
      headers: { 'Content-Type': 'application/json', 'Idempotency-Key': 'k' },
      requestContext: {},
      body: '{}',
    };
    expect(await lambda(event, {})).toMatchObject({ statusCode: 201 });
    const again = await lambda(event, {});
    expect(again).toMatchObject({ statusCode: 201, headers: { 'idempotency-replayed': 'true' } });
    expect(runs).toBe(1);
  });
});

describe('requests built by other libraries', () => {
  const redis = useRedis();
  let http: HttpApp | undefined;

  beforeEach(() => {
    runs = 0;
  });

  afterEach(() => http?.app.close());

  it('[ID-7] work with node-mocks-http, whose response keeps its text as text', async () => {
    http = await startApp('express', { connection: redis.server.url }, { controllers: [ClientsController] });
    const express = http.app.getHttpAdapter().getInstance() as (request: object, response: object) => void;
    for (let n = 0; n < 2; n++) {
      const request = mocks.createRequest({
        method: 'POST',
        url: '/orders',
        headers: { 'idempotency-key': 'mock' },
      });
      const response = mocks.createResponse({ eventEmitter: EventEmitter });
      const ended = new Promise((resolve) => response.once('end', resolve));
      express(request, response);
      await ended;
      expect(response.statusCode).toBe(201);
      expect(response['_getJSONData']()).toEqual({ run: 1 });
    }
    expect(runs).toBe(1);
  });

  it.each(['/memory', '/disk'])(
    '[ID-4] of multer with different uploads are told apart: %s',
    async (path) => {
      http = await startApp(
        'express',
        { connection: redis.server.url },
        { controllers: [UploadsController] },
      );
      expect(await sendForm(http, path, 'n', 'one')).toEqual({ status: 201, replayed: false });
      expect(await sendForm(http, path, 'n', 'one')).toEqual({ status: 201, replayed: true });
      expect(await sendForm(http, path, 'n', 'other')).toEqual({ status: 422, replayed: false });
      expect(await sendForm(http, path, 'm', 'one')).toEqual({ status: 422, replayed: false });
    },
  );

  it.each([true, 'keyValues'])(
    '[ID-4] of @fastify/multipart with different forms are told apart, with attachFieldsToBody %s',
    async (attachFieldsToBody) => {
      http = await startForms({ attachFieldsToBody });
      expect(await sendForm(http, '/orders', 'n', 'one')).toEqual({ status: 201, replayed: false });
      expect(await sendForm(http, '/orders', 'n', 'one')).toEqual({ status: 201, replayed: true });
      expect(await sendForm(http, '/orders', 'n', 'two')).toEqual({ status: 422, replayed: false });
      expect(await sendForm(http, '/orders', 'm', 'one')).toEqual({ status: 422, replayed: false });
    },
  );

  it('[ID-4] run once for a form that the handler parses by itself', async () => {
    http = await startForms({});
    expect(await sendForm(http, '/orders', 'n', 'one')).toEqual({ status: 201, replayed: false });
    expect(await sendForm(http, '/orders', 'n', 'one')).toEqual({ status: 201, replayed: true });
    expect(runs).toBe(1);
  });

  const startForms = (options: object): Promise<HttpApp> =>
    startApp(
      'fastify',
      { connection: redis.server.url },
      {
        controllers: [ClientsController],
        configure: (app) => {
          const fastify = app.getHttpAdapter().getInstance() as {
            register(plugin: unknown, options: object): unknown;
          };
          fastify.register(multipart, options);
        },
      },
    );
});

const storedFile = (content: string): StoredFile =>
  new StoredFile('a.txt', content.length, `/tmp/${Math.random()}`, Buffer.from(content));

function nested(depth: number, inside: string): string {
  return '['.repeat(depth) + inside + ']'.repeat(depth);
}
