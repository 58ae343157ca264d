import { Controller, Get, Post, type INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { connect, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2';
import { text } from 'node:stream/consumers';
import { once } from 'node:events';
import { Module } from '@nestjs/common';
import { AtomicRedisModule, Idempotent, RedisUnavailableError } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { urlOf } from './edge-app.js';

let began: () => void;
let go: () => void;

@Controller()
class OrdersController {
  runs = 0;

  @Post('orders')
  @Idempotent()
  async create(): Promise<{ run: number }> {
    const open = new Promise<void>((resolve) => (go = resolve));
    began();
    await open;
    return { run: ++this.runs };
  }

  @Get('down')
  async down(): Promise<never> {
    throw new RedisUnavailableError('away');
  }
}

describe('HTTP/2 on Fastify', () => {
  const redis = useRedis();
  let app: INestApplication;
  let session: ClientHttp2Session;

  beforeAll(async () => {
    @Module({
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' })],
      controllers: [OrdersController],
    })
    class AppModule {}
    const adapter = new FastifyAdapter({ http2: true } as object);
    app = await NestFactory.create<NestFastifyApplication>(AppModule, adapter, { logger: false });
    await app.listen(0, '127.0.0.1');
    session = connect(urlOf(app));
    await once(session, 'connect');
  });

  afterAll(async () => {
    session?.destroy();
    await app?.close();
  });

  async function send(
    headers: Record<string, string>,
  ): Promise<{ headers: IncomingHttpHeaders; body: string }> {
    const stream = session.request(headers);
    stream.end();
    const [answer] = (await once(stream, 'response')) as [IncomingHttpHeaders];
    return { headers: answer, body: await text(stream) };
  }

  it('[ERR-1] has the same problem details, Retry-After and replays as HTTP/1.1', async () => {
    const request = { ':method': 'POST', ':path': '/orders', 'idempotency-key': 'k' };
    const running = new Promise<void>((resolve) => (began = resolve));
    const first = send(request);
    await running;
    const duplicate = await send(request);
    expect(duplicate.headers).toMatchObject({
      ':status': 409,
      'retry-after': expect.stringMatching(/^[1-9]\d*$/) as string,
      'content-type': expect.stringContaining('application/problem+json') as string,
    });
    expect(JSON.parse(duplicate.body)).toMatchObject({ code: 'IDEMPOTENCY_IN_FLIGHT', status: 409 });
    const missing = await send({ ':method': 'POST', ':path': '/orders' });
    expect(missing.headers).toMatchObject({ ':status': 400 });
    go();
    expect(await first).toMatchObject({ headers: { ':status': 201 }, body: '{"run":1}' });
    expect(await send(request)).toMatchObject({
      headers: { ':status': 201, 'idempotency-replayed': 'true' },
      body: '{"run":1}',
    });
  });

  it('[ERR-1] has them on any route', async () => {
    const answer = await send({ ':method': 'GET', ':path': '/down' });
    expect(answer.headers).toMatchObject({ ':status': 503, 'retry-after': '1' });
    expect(JSON.parse(answer.body)).toMatchObject({ code: 'REDIS_UNAVAILABLE' });
  });
});
