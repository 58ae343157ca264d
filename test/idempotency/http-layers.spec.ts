import type { ServerResponse } from 'node:http';
import {
  Body,
  Catch,
  ClassSerializerInterceptor,
  ConflictException,
  Controller,
  HttpException,
  Post,
  Res,
  UseInterceptors,
  type ArgumentsHost,
  type CallHandler,
  type ExceptionFilter,
  type ExecutionContext,
  type INestApplication,
  type NestInterceptor,
  type Provider,
} from '@nestjs/common';
import { APP_FILTER, APP_INTERCEPTOR, HttpAdapterHost, Reflector } from '@nestjs/core';
import { Exclude } from 'class-transformer';
import { Idempotent } from 'nestjs-atomic-redis';
import { map, type Observable } from 'rxjs';
import { useRedis } from '../support/redis.js';
import { PLATFORMS, send, startApp, type HttpApp } from './http-app.js';

let runs = 0;
let requests = 0;

class User {
  run = ++runs;

  @Exclude()
  password = 'secret';
}

const rawOf = (context: ExecutionContext): ServerResponse => {
  const response = context.switchToHttp().getResponse<ServerResponse & { raw?: ServerResponse }>();
  return response.raw ?? response;
};

/** Wraps what handlers return, and gives each response an id of its own. */
class EnvelopeInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    rawOf(context).setHeader('X-Request-Id', String(++requests));
    return next.handle().pipe(map((data: unknown) => ({ data })));
  }
}

@Catch(HttpException)
class TeapotFilter implements ExceptionFilter<HttpException> {
  constructor(private readonly adapterHost: HttpAdapterHost) {}

  catch(exception: HttpException, host: ArgumentsHost): void {
    const { httpAdapter } = this.adapterHost;
    httpAdapter.reply(host.switchToHttp().getResponse(), { teapot: exception.message, at: ++requests }, 418);
  }
}

@Controller('plain')
class PlainController {
  @Post()
  @Idempotent()
  user(): User {
    return new User();
  }

  @Post('serializer-above')
  @UseInterceptors(ClassSerializerInterceptor)
  @Idempotent()
  above(): User {
    return new User();
  }

  @Post('serializer-below')
  @Idempotent()
  @UseInterceptors(ClassSerializerInterceptor)
  below(): User {
    return new User();
  }

  @Post('private')
  @Idempotent()
  private(@Res({ passthrough: true }) response: ServerResponse & { raw?: ServerResponse }): User {
    const raw = response.raw ?? response;
    raw.setHeader('Set-Cookie', 'session=of-the-first');
    raw.setHeader('Authorization', 'of-the-first');
    raw.setHeader('ETag', '"kept"');
    return new User();
  }

  @Post('conflict')
  @Idempotent()
  conflict(): never {
    throw new ConflictException(`run ${++runs}`);
  }

  @Post('changes-its-body')
  @Idempotent()
  changes(@Body() body: { amount: number }): object {
    body.amount = 0;
    return { run: ++runs };
  }

  @Post('huge')
  @Idempotent()
  huge(): string {
    runs++;
    return 'x'.repeat(20 * 1_048_576);
  }
}

@Controller('serialized')
@UseInterceptors(ClassSerializerInterceptor)
class SerializedController {
  @Post()
  @Idempotent()
  user(): User {
    return new User();
  }
}

describe.each(PLATFORMS)('the layers around an idempotent route on %s', (platform) => {
  const redis = useRedis();
  let http: HttpApp;

  const start = async (providers: Provider[] = [], configure?: (app: INestApplication) => void) => {
    runs = 0;
    http = await startApp(
      platform,
      { connection: redis.server.url },
      { controllers: [PlainController, SerializedController], providers, ...(configure && { configure }) },
    );
  };

  afterEach(() => http.app.close());

  const stored = async (): Promise<string> => {
    const records = await redis.client.keys('atomic:idempotency:*');
    expect(records).toHaveLength(1);
    return (await redis.client.get(records[0]!))!;
  };

  const globally = { provide: APP_INTERCEPTOR, useClass: ClassSerializerInterceptor };
  const byCall = (app: INestApplication): void =>
    void app.useGlobalInterceptors(new ClassSerializerInterceptor(app.get(Reflector)));

  it.each<[string, string, Provider[], ((app: INestApplication) => void) | null]>([
    ['for all by a provider', '/plain', [globally], null],
    ['for all by a call', '/plain', [], byCall],
    ['for the controller', '/serialized', [], null],
    ['for the method, above the decorator', '/plain/serializer-above', [], null],
    ['for the method, below the decorator', '/plain/serializer-below', [], null],
    ['everywhere at once', '/serialized', [globally], byCall],
  ])(
    '[ID-2] a serializer registered %s removes fields from replay and record',
    async (_, path, providers, configure) => {
      await start(providers, configure ?? undefined);
      const first = await send(http, path);
      expect(first).toEqual({ status: 201, body: '{"run":1}', replayed: false });
      expect(await send(http, path)).toEqual({ ...first, replayed: true });
      expect(await stored()).not.toContain('secret');
    },
  );

  it('[ID-2] an interceptor that wraps results, and a filter with its own errors, give the same response twice', async () => {
    await start([
      { provide: APP_INTERCEPTOR, useClass: EnvelopeInterceptor },
      globally,
      { provide: APP_FILTER, useClass: TeapotFilter },
    ]);
    const first = await send(http, '/plain');
    expect(first).toEqual({ status: 201, body: '{"data":{"run":1}}', replayed: false });
    expect(await send(http, '/plain')).toEqual({ ...first, replayed: true });
    const refused = await send(http, '/plain/conflict');
    expect(refused.status).toBe(418);
    expect(JSON.parse(refused.body)).toMatchObject({ teapot: 'run 2' });
    expect(await send(http, '/plain/conflict')).toEqual({ ...refused, replayed: true });
    expect(runs).toBe(2);
  });

  it('[ID-2] a replay has the request id, date and CORS headers of its own exchange, and nothing private of the first', async () => {
    await start([globally, { provide: APP_INTERCEPTOR, useClass: EnvelopeInterceptor }], (app) =>
      app.enableCors({ origin: true }),
    );
    const post = (origin: string) =>
      fetch(`http://127.0.0.1:${http.port}/plain/private`, {
        method: 'POST',
        headers: { 'idempotency-key': 'k', 'content-type': 'application/json', origin },
        body: '{}',
      });
    const first = await post('http://one.example');
    expect(first.headers.get('set-cookie')).toBe('session=of-the-first');
    const replay = await post('http://other.example');
    expect(replay.headers.get('idempotency-replayed')).toBe('true');
    expect(await replay.text()).toBe(await first.text());
    expect(replay.headers.get('etag')).toBe('"kept"');
    for (const name of ['set-cookie', 'authorization']) expect(replay.headers.get(name)).toBeNull();
    expect(replay.headers.get('x-request-id')).toBe(String(requests));
    expect(first.headers.get('x-request-id')).toBe(String(requests - 1));
    expect(replay.headers.get('access-control-allow-origin')).toBe('http://other.example');
    expect(replay.headers.get('date')).not.toBeNull();
    expect(await stored()).not.toMatch(/of-the-first|one\.example|x-request-id|transfer-encoding|"date"/i);
  });

  it('[ID-4] a handler that changes its body changes neither the record nor the fingerprint of the payload', async () => {
    await start();
    const order = (amount: number) => send(http, '/plain/changes-its-body', { body: { amount } });
    const first = await order(7);
    expect(await order(7)).toEqual({ ...first, replayed: true });
    expect((await order(0)).status).toBe(422);
    expect(runs).toBe(1);
  });

  it('[ID-4] the same JSON in another order is the same payload, another query string is another', async () => {
    await start();
    const first = await send(http, '/plain/changes-its-body', { body: { amount: 7, note: { a: 1, b: 2 } } });
    const again = await send(http, '/plain/changes-its-body', { body: { note: { b: 2, a: 1 }, amount: 7 } });
    expect(again).toEqual({ ...first, replayed: true });
    const body = { amount: 7, note: { a: 1, b: 2 } };
    expect((await send(http, '/plain/changes-its-body?draft=1', { body })).status).toBe(422);
    expect(runs).toBe(1);
  });

  it('[ID-6] a body that cannot be parsed leaves the key free for the corrected request', async () => {
    await start();
    const post = (body: string) =>
      fetch(`http://127.0.0.1:${http.port}/plain/changes-its-body`, {
        method: 'POST',
        headers: { 'idempotency-key': 'k', 'content-type': 'application/json' },
        body,
      });
    expect((await post('{"amount": 7')).status).toBe(400);
    expect(await redis.client.dbsize()).toBe(0);
    expect((await post('{"amount": 7}')).status).toBe(201);
    expect(runs).toBe(1);
  });

  it('[ID-3] a response of 20 MB reaches its client whole, costs Redis no memory, and is not made again', async () => {
    await start();
    const memory = async (): Promise<number> =>
      Number(/^used_memory_peak:(\d+)/m.exec(await redis.client.info('memory'))![1]);
    await redis.client.config('RESETSTAT');
    const before = await memory();
    const first = await send(http, '/plain/huge');
    expect([first.status, first.body.length]).toEqual([201, 20 * 1_048_576]);
    const again = await send(http, '/plain/huge');
    expect(again.status).toBe(409);
    expect(JSON.parse(again.body)).toMatchObject({
      code: 'IDEMPOTENCY_RESULT_UNAVAILABLE',
      retryable: false,
    });
    expect(runs).toBe(1);
    expect((await memory()) - before).toBeLessThan(1_048_576);
  });
});
