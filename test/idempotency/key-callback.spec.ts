import { Body, Controller, HttpCode, Module, Post } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { Test } from '@nestjs/testing';
import { AtomicRedisModule, Idempotent } from 'nestjs-atomic-redis';
import { createApplication, PLATFORMS } from '../nest/platforms.js';
import { useRedis } from '../support/redis.js';

describe.each(PLATFORMS)('a key callback on %s', (platform) => {
  const redis = useRedis();
  let runs = 0;
  let app: Pick<NestExpressApplication, 'close' | 'getUrl'>;

  @Controller()
  class Webhooks {
    @Post()
    @HttpCode(200)
    @Idempotent({
      key: (event: { id: string | number | bigint }) => event.id,
      scope: () => 'provider',
      operation: 'webhooks.paid',
    })
    async paid(@Body() event: { id: string | number | bigint }): Promise<object> {
      return { run: ++runs, of: event.id };
    }

    @Post('bigint')
    @Idempotent({
      key: (event: { id: string }) => BigInt(event.id),
      scope: () => 'provider',
      operation: 'webhooks.bigint',
      fingerprint: () => 'any',
    })
    async big(@Body() _event: { id: string }): Promise<object> {
      return { run: ++runs };
    }
  }

  beforeEach(async () => {
    runs = 0;
    @Module({
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' })],
      controllers: [Webhooks],
    })
    class AppModule {}
    const module = await Test.createTestingModule({ imports: [AppModule] }).compile();
    const created = createApplication(module, platform);
    created.useLogger(false);
    await created.listen(0, '127.0.0.1');
    app = created as typeof app;
  });

  afterEach(() => app.close());

  const send = async (body: string, path = ''): Promise<[number, unknown]> => {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${await app.getUrl()}/${path}`, { method: 'POST', headers, body });
    return [response.status, await response.json()];
  };

  it('[ID-43] may return an integer', async () => {
    for (let i = 0; i < 2; i++)
      expect(await send('{"id":820982911}')).toEqual([200, { run: 1, of: 820982911 }]);
    expect(await send('{"id":-7}')).toEqual([200, { run: 2, of: -7 }]);
    for (let i = 0; i < 2; i++)
      expect(await send('{"id":"9007199254740993"}', 'bigint')).toEqual([201, { run: 3 }]);
  });

  it.each(['9007199254740993', '1.5', '1e999', 'null', '""', '{}', '[1]', 'true', '"\\ud800"'])(
    '[ID-43] is refused with a 400, and nothing runs, if a client sent %s',
    async (id) => {
      const [status, problem] = await send(`{"id":${id}}`);
      expect([status, problem]).toEqual([
        400,
        expect.objectContaining({ code: 'IDEMPOTENCY_KEY_INVALID' }) as object,
      ]);
      expect(runs).toBe(0);
    },
  );
});
