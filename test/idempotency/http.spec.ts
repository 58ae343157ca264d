import { Readable } from 'node:stream';
import {
  Body,
  ClassSerializerInterceptor,
  ConflictException,
  Controller,
  Get,
  Header,
  HttpCode,
  Param,
  Post,
  Redirect,
  Req,
  Res,
  StreamableFile,
  UseGuards,
  ValidationPipe,
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
} from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Exclude } from 'class-transformer';
import { IsInt } from 'class-validator';
import type { Response } from 'express';
import { Idempotent } from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { stateOf } from '../support/idempotency-record.js';

class OrderDto {
  @IsInt()
  quantity!: number;
}

class User {
  name = 'Ada';

  @Exclude()
  password = 'secret';
}

class UserGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string>; user?: unknown }>();
    if (request.headers['x-banned']) return false;
    if (request.headers['x-user']) request.user = { id: request.headers['x-user'] };
    return true;
  }
}

type RawResponse = Response & { raw?: Response };

/** Counts its runs; shows every way a handler has to answer. */
@Controller('orders')
@UseGuards(UserGuard)
class OrdersController {
  runs = 0;
  gate: Promise<void> | undefined;
  started: (() => void) | undefined;

  @Post()
  @Idempotent()
  async create(@Body() dto: OrderDto): Promise<object> {
    this.runs++;
    this.started?.();
    await this.gate;
    return { id: this.runs, quantity: dto.quantity };
  }

  @Post('optional')
  @Idempotent({ required: false })
  optional(): object {
    return { run: ++this.runs };
  }

  @Post('kinds/:kind')
  @HttpCode(202)
  @Header('Location', '/orders/1')
  @Idempotent()
  kinds(@Param('kind') kind: string): unknown {
    const run = ++this.runs;
    switch (kind) {
      case 'void':
        return undefined;
      case 'null':
        return null;
      case 'empty':
        return '';
      case 'zero':
        return 0;
      case 'false':
        return false;
      case 'array':
        return [];
      case 'text':
        return `run ${run}`;
      case 'user':
        return new User();
      case 'buffer':
        return new StreamableFile(Buffer.from([0, 255, run]), { type: 'image/png' });
      case 'stream':
        return new StreamableFile(Readable.from([Buffer.from('run '), Buffer.from(`${run}`)]));
      case 'conflict':
        throw new ConflictException({ message: 'no', run });
      case 'crash':
        throw new Error(`boom ${run}`);
      case 'large':
        return 'x'.repeat(100_000);
      default:
        return { run };
    }
  }

  @Post('raw')
  @Idempotent()
  raw(@Res() response: RawResponse): void {
    const run = ++this.runs;
    const raw = response.raw ?? response;
    raw.writeHead(201, { 'Content-Type': 'text/plain', 'Set-Cookie': 'session=1', 'X-Request-Id': `${run}` });
    raw.write('run ');
    raw.end(`${run}`);
  }

  @Post('redirect')
  @Redirect()
  @Idempotent()
  redirect(): object {
    return { url: `/orders/${++this.runs}`, statusCode: 303 };
  }

  @Get('user')
  user(@Req() request: { user?: unknown }): unknown {
    return request.user ?? null;
  }
}

describe.each(['express', 'fastify'])('@Idempotent over HTTP on %s', (platform) => {
  const boot = useApp();
  const redis = useRedis();
  let app: INestApplication;
  let orders: OrdersController;
  let base: string;

  beforeEach(async () => {
    app = await boot.http(
      { connection: redis.server.url, idempotency: { maxResultBytes: 50_000 } },
      {
        controllers: [OrdersController],
        providers: [{ provide: APP_INTERCEPTOR, useClass: ClassSerializerInterceptor }],
        adapter: platform === 'fastify' ? new FastifyAdapter() : undefined,
        configure: (nest) => nest.useGlobalPipes(new ValidationPipe()),
      },
    );
    base = (await app.getUrl()).replace('[::1]', '127.0.0.1');
    orders = app.get(OrdersController);
  });

  const post = (path: string, headers: Record<string, string> = {}, body: unknown = {}) =>
    fetch(`${base}/orders${path}`, {
      method: 'POST',
      redirect: 'manual',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });

  const wire = async (response: Response | globalThis.Response) => {
    const { status, headers } = response as globalThis.Response;
    const body = Buffer.from(await (response as globalThis.Response).arrayBuffer()).toString('latin1');
    return { status, body, type: headers.get('content-type'), location: headers.get('location') };
  };

  it('[ID-1] runs once and replays the response byte for byte, in 2 round trips and then 1', async () => {
    await post('', { 'idempotency-key': 'warm-up' }, { quantity: 1 });
    const counts = await countCommands(redis.client, async () => {
      const first = await wire(await post('', { 'idempotency-key': 'a' }, { quantity: 3 }));
      expect(first).toMatchObject({ status: 201, body: '{"id":2,"quantity":3}' });
    });
    expect(counts.evalsha).toBe(2);
    const replayCounts = await countCommands(redis.client, async () => {
      const replay = await post('', { 'idempotency-key': '"a"' }, { quantity: 3 });
      expect(replay.headers.get('idempotency-replayed')).toBe('true');
      expect(await wire(replay)).toMatchObject({ status: 201, body: '{"id":2,"quantity":3}' });
    });
    expect(replayCounts.evalsha).toBe(1);
    expect(orders.runs).toBe(2);
  });

  it.each([
    'void',
    'null',
    'empty',
    'zero',
    'false',
    'array',
    'text',
    'user',
    'buffer',
    'stream',
    'conflict',
    'object',
  ])('[ID-2] replays a %s with the same bytes on the wire', async (kind) => {
    const first = await wire(await post(`/kinds/${kind}`, { 'idempotency-key': 'k' }));
    const replay = await post(`/kinds/${kind}`, { 'idempotency-key': 'k' });
    expect(replay.headers.get('idempotency-replayed')).toBe('true');
    expect(await wire(replay)).toEqual(first);
    expect(first.body).not.toContain('secret');
    expect(orders.runs).toBe(1);
  });

  it('[ID-2] never keeps an excluded field', async () => {
    await post('/kinds/user', { 'idempotency-key': 'k' });
    const [record] = await redis.client.keys('atomic:idempotency:*');
    expect(await redis.client.get(record!)).not.toContain('secret');
  });

  it('[ID-2] replays a response that the handler sent by itself, without cookies and request ids', async () => {
    const first = await post('/raw', { 'idempotency-key': 'k' });
    expect(first.headers.get('set-cookie')).toBe('session=1');
    expect(await wire(first)).toMatchObject({ status: 201, body: 'run 1', type: 'text/plain' });
    const replay = await post('/raw', { 'idempotency-key': 'k' });
    expect(replay.headers.get('set-cookie')).toBeNull();
    expect(replay.headers.get('x-request-id')).toBeNull();
    expect(await wire(replay)).toMatchObject({ status: 201, body: 'run 1', type: 'text/plain' });
    expect(orders.runs).toBe(1);
  });

  it('[ID-2] replays a redirect', async () => {
    const first = await wire(await post('/redirect', { 'idempotency-key': 'k' }));
    expect(first).toMatchObject({ status: 303, location: '/orders/1' });
    expect(await wire(await post('/redirect', { 'idempotency-key': 'k' }))).toEqual(first);
  });

  it('[ID-3] runs again after a crash, which released the key', async () => {
    expect((await post('/kinds/crash', { 'idempotency-key': 'k' })).status).toBe(500);
    const [record] = await redis.client.keys('atomic:idempotency:*');
    expect(await stateOf(redis.client, record!)).toBe('released');
    expect((await post('/kinds/crash', { 'idempotency-key': 'k' })).status).toBe(500);
    expect(orders.runs).toBe(2);
  });

  it('[ID-3] returns a result that is too large to keep, and refuses to run again', async () => {
    const first = await post('/kinds/large', { 'idempotency-key': 'k' });
    expect((await first.text()).length).toBe(100_000);
    const repeat = await post('/kinds/large', { 'idempotency-key': 'k' });
    expect(repeat.status).toBe(409);
    expect(await repeat.json()).toMatchObject({
      code: 'IDEMPOTENCY_RESULT_UNAVAILABLE',
      outcome: 'applied',
      retryable: false,
    });
    expect(orders.runs).toBe(1);
  });

  it('[ID-4] answers 409 with Retry-After while the first call runs, and 422 to another payload at any time', async () => {
    let open = (): void => undefined;
    orders.gate = new Promise<void>((resolve) => (open = resolve));
    const running = new Promise<void>((resolve) => (orders.started = resolve));
    const first = post('', { 'idempotency-key': 'k' }, { quantity: 1 });
    await running;
    const duplicate = await post('', { 'idempotency-key': 'k' }, { quantity: 1 });
    expect(duplicate.status).toBe(409);
    expect(duplicate.headers.get('content-type')).toContain('application/problem+json');
    expect(Number(duplicate.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await duplicate.json()).toMatchObject({
      code: 'IDEMPOTENCY_IN_FLIGHT',
      status: 409,
      retryable: true,
    });
    expect((await post('', { 'idempotency-key': 'k' }, { quantity: 2 })).status).toBe(422);
    open();
    expect((await first).status).toBe(201);
    expect((await post('', { 'idempotency-key': 'k' }, { quantity: 2 })).status).toBe(422);
    expect(
      (await post('', { 'idempotency-key': 'k' }, { quantity: 1 })).headers.get('idempotency-replayed'),
    ).toBe('true');
  });

  it('[ID-5] replays a caller’s response to no other caller, and to none that the guard rejects', async () => {
    await post('', { 'idempotency-key': 'k', 'x-user': 'ada' }, { quantity: 1 });
    const other = await post('', { 'idempotency-key': 'k', 'x-user': 'bob' }, { quantity: 1 });
    expect(other.headers.get('idempotency-replayed')).toBeNull();
    expect(orders.runs).toBe(2);
    const banned = await post(
      '',
      { 'idempotency-key': 'k', 'x-user': 'ada', 'x-banned': '1' },
      { quantity: 1 },
    );
    expect(banned.status).toBe(403);
  });

  it('[ID-6] keeps nothing of a request that a pipe refuses', async () => {
    expect((await post('', { 'idempotency-key': 'k' }, { quantity: 'many' })).status).toBe(400);
    expect((await post('', { 'idempotency-key': 'k' }, { quantity: 2 })).status).toBe(201);
  });

  it.each([undefined, '', '   ', 'a,b', 'é', 'a b', 'x'.repeat(256), '"open'])(
    '[ID-7] refuses the key %j before any command',
    async (key) => {
      const counts = await countCommands(redis.client, async () => {
        const response = await post(
          '',
          key === undefined ? {} : { 'idempotency-key': Buffer.from(key).toString('latin1') },
          { quantity: 1 },
        );
        expect(response.status).toBe(400);
        expect(response.headers.get('content-type')).toContain('application/problem+json');
      });
      expect(counts.evalsha ?? 0).toBe(0);
      expect(orders.runs).toBe(0);
    },
  );

  it('[ID-7] runs unprotected without a key where that is allowed', async () => {
    expect(await (await post('/optional')).json()).toEqual({ run: 1 });
    expect(await (await post('/optional')).json()).toEqual({ run: 2 });
  });
});

describe('a hook of Fastify that waits', () => {
  const boot = useApp();
  const redis = useRedis();

  it('[ID-1] runs once for the replay of a route that takes the response', async () => {
    const seen: string[] = [];
    const adapter = new FastifyAdapter();
    const fastify = adapter.getInstance();
    fastify.addHook('onSend', async () => {
      seen.push('onSend');
      await new Promise((resolve) => setTimeout(resolve, 30));
    });
    fastify.addHook('onError', async () => void seen.push('onError'));
    fastify.addHook('onResponse', async () => void seen.push('onResponse'));
    const app = await boot.http(
      { connection: redis.server.url },
      { controllers: [OrdersController], adapter },
    );
    const base = (await app.getUrl()).replace('[::1]', '127.0.0.1');
    const post = () =>
      fetch(`${base}/orders/raw`, {
        method: 'POST',
        headers: { 'idempotency-key': 'k' },
      });
    expect(await (await post()).text()).toBe('run 1');
    await waitFor('the first response has ended', () => seen.includes('onResponse'));
    seen.length = 0;
    const replay = await post();
    expect(await replay.text()).toBe('run 1');
    expect(replay.headers.get('idempotency-replayed')).toBe('true');
    await waitFor('the replay has ended', () => seen.includes('onResponse'));
    // A second answer would fail in this time.
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(seen).toEqual(['onSend', 'onResponse']);
  });
});
