import { request, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { BadRequestException, Body, Controller, Get, Post, Res } from '@nestjs/common';
import {
  AtomicRedisEvents,
  callerScope,
  IdempotencyService,
  Idempotent,
  type AtomicRedisEvent,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { PLATFORMS, send, sendAndLeave, startApp, type HttpApp } from './http-app.js';
import { gate } from './support.js';

let runs = 0;
/** Gates that end the held routes' runs. */
let ends = [gate(), gate()];

@Controller()
class OptionsController {
  @Post('waiting')
  @Idempotent({ onDuplicate: 'wait' })
  async waiting(): Promise<object> {
    runs++;
    await sleep(200);
    return { run: runs };
  }

  @Post('failing')
  @Idempotent({ onDuplicate: 'wait' })
  async failing(): Promise<object> {
    runs++;
    await sleep(100);
    if (runs === 1) throw new Error('at first');
    return { run: runs };
  }

  @Post('hasty')
  @Idempotent({ onDuplicate: 'wait', waitTimeoutMs: 50 })
  async hasty(): Promise<object> {
    const run = ++runs;
    await ends[run - 1]!.promise;
    return { run };
  }

  @Post('by-amount')
  @Idempotent({ fingerprint: (body: { amount: number }) => body.amount })
  byAmount(@Body() _body: { amount: number }): object {
    return { run: ++runs };
  }

  @Post('open')
  @Idempotent({ onUnavailable: 'run', timeoutMs: 1_500, operation: 'open' })
  open(): object {
    return { run: ++runs };
  }

  @Post('refusing')
  @Idempotent({ operation: 'refusing' })
  refusing(): never {
    runs++;
    throw new BadRequestException('no');
  }

  @Post('open-sent')
  @Idempotent({ onUnavailable: 'run', timeoutMs: 1_500, operation: 'open-sent' })
  openSent(@Res() response: { send(body: object): unknown }): void {
    response.send({ run: ++runs });
  }

  @Post('held')
  @Idempotent({ onDuplicate: 'wait' })
  async held(): Promise<object> {
    const run = ++runs;
    await ends[run - 1]!.promise;
    return { run };
  }

  @Get('unrelated')
  unrelated(): string {
    return 'fine';
  }
}

describe.each(PLATFORMS)('options of idempotent routes on %s', (platform) => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let http: HttpApp;
  let events: AtomicRedisEvent[];

  beforeEach(async () => {
    runs = 0;
    ends = [gate(), gate()];
    events = [];
    proxy = await startFaultProxy({ target: redis.server });
    http = await startApp(
      platform,
      { connection: proxy.url, shutdownTimeoutMs: 500 },
      { controllers: [OptionsController] },
    );
    http.app.get(AtomicRedisEvents).subscribe((event) => events.push(event));
  });

  afterEach(async () => {
    await http.app.close();
    await proxy.stop();
  });

  it('[ID-11] waiting duplicates get the first response', async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, () => send(http, '/waiting')));
    expect(runs).toBe(1);
    expect(answers.map(({ status, body }) => [status, body])).toEqual(
      Array.from({ length: 20 }, () => [201, '{"run":1}']),
    );
    expect(answers.filter(({ replayed }) => replayed)).toHaveLength(19);
    await waitFor('the events', () => events.length === 20);
    expect(events.filter(({ type }) => type === 'idempotency.run')).toHaveLength(1);
  });

  it('[ID-11] one waiter runs when the first call fails', async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => send(http, '/failing')));
    expect(runs).toBe(2);
    expect(answers.filter(({ status }) => status === 500)).toHaveLength(1);
    expect(answers.filter(({ body }) => body === '{"run":2}')).toHaveLength(9);
  });

  it('[ID-11] a duplicate whose wait is over is refused, and the first response stays', async () => {
    const first = send(http, '/hasty');
    await waitFor('the run', () => runs === 1);
    const second = await send(http, '/hasty');
    expect(second.status).toBe(409);
    expect(JSON.parse(second.body)).toMatchObject({ code: 'IDEMPOTENCY_IN_FLIGHT' });
    ends[0]!.resolve();
    expect(await first).toMatchObject({ status: 201, body: '{"run":1}' });
    expect(await send(http, '/hasty')).toMatchObject({ body: '{"run":1}', replayed: true });
  });

  it('[ID-11] a waiter whose client has disconnected takes over, and its response is kept', async () => {
    const first = send(http, '/held');
    await waitFor('the run', () => runs === 1);
    const subscribed = waitFor('the subscription', async () => {
      const channels = (await redis.client.call('PUBSUB', 'SHARDCHANNELS')) as string[];
      return channels.length === 1;
    });
    await sendAndLeave(http, '/held', subscribed);
    ends[0]!.reject(new Error('failed'));
    expect(await first).toMatchObject({ status: 500 });
    await waitFor('the take-over', () => runs === 2);
    ends[1]!.resolve();
    expect(await send(http, '/held')).toEqual({ status: 201, body: '{"run":2}', replayed: true });
    await waitFor('the events', () => events.length === 3);
    expect(events).toMatchObject([
      { type: 'idempotency.run', outcome: 'released' },
      { type: 'idempotency.run', outcome: 'completed' },
      { type: 'idempotency.duplicate', outcome: 'replayed' },
    ]);
  });

  it('[ID-7] two keys in one request are refused before any command', async () => {
    const counts = await countCommands(redis.client, async () => {
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        const { port } = http;
        const outgoing = request({ port, host: '127.0.0.1', path: '/waiting', method: 'POST' }, resolve);
        outgoing.on('error', reject).setHeader('idempotency-key', ['a', 'b']).end();
      });
      expect(response.statusCode).toBe(400);
      response.resume();
    });
    expect(counts).not.toHaveProperty('evalsha');
    expect(runs).toBe(0);
  });

  it('[ID-4] payloads are compared by the application’s own fingerprint', async () => {
    const pay = (body: object) => send(http, '/by-amount', { body });
    expect(await pay({ amount: 1, note: 'a' })).toMatchObject({ status: 201 });
    expect(await pay({ amount: 1, note: 'b' })).toMatchObject({ replayed: true });
    expect(await pay({ amount: 2, note: 'a' })).toMatchObject({ status: 422 });
    // A value that cannot be compared.
    const nothing = await send(http, '/by-amount', { headers: { 'idempotency-key': 'other' }, body: {} });
    expect(nothing.status).toBe(201);
  });

  it.each(['/open', '/open-sent'])(
    '[ID-10] a route may run unprotected while Redis is away, and is protected again when it returns: %s',
    async (path) => {
      expect(await send(http, path)).toMatchObject({ status: 201, body: '{"run":1}' });
      proxy.refuseConnections(true);
      proxy.disconnectAll();
      expect(await send(http, path)).toMatchObject({ status: 201, body: '{"run":2}', replayed: false });
      expect(await send(http, path)).toMatchObject({ status: 201, body: '{"run":3}', replayed: false });
      await waitFor('the events', () => events.length === 3);
      expect(events).toMatchObject([
        { type: 'idempotency.run', outcome: 'completed' },
        { type: 'idempotency.ran-unprotected', operation: path.slice(1) },
        { type: 'idempotency.ran-unprotected', operation: path.slice(1) },
      ]);
      expect(await send(http, '/unrelated', { method: 'GET' })).toMatchObject({ body: 'fine' });
      proxy.reset();
      const replay = await waitFor('Redis', async () => {
        const answer = await send(http, path);
        return answer.replayed && answer;
      });
      expect(replay).toEqual({ status: 201, body: '{"run":1}', replayed: true });
    },
  );

  it('[ID-15] a response is replayed from memory without a command to Redis', async () => {
    const cached = await startApp(
      platform,
      { connection: redis.server.url, idempotency: { replayCache: { maxBytes: 100_000 } } },
      { controllers: [OptionsController] },
    );
    try {
      expect(await send(cached, '/open')).toMatchObject({ body: '{"run":1}', replayed: false });
      const counts = await countCommands(redis.client, async () => {
        expect(await send(cached, '/open')).toEqual({ status: 201, body: '{"run":1}', replayed: true });
      });
      expect(counts.evalsha).toBeUndefined();
    } finally {
      await cached.app.close();
    }
  });

  it('[ID-16] the key of a caller can be inspected and forgotten', async () => {
    const headers = { authorization: 'Bearer ada' };
    expect(await send(http, '/refusing', { headers })).toMatchObject({ status: 400 });
    expect(await send(http, '/refusing', { headers })).toMatchObject({ status: 400, replayed: true });
    const idempotency = http.app.get(IdempotencyService);
    const options = { operation: 'refusing', scope: callerScope({ headers }) };
    expect(await idempotency.inspect('k', options)).toMatchObject({ state: 'completed' });
    expect(await idempotency.forget('k', options)).toBe(true);
    expect(await send(http, '/refusing', { headers })).toMatchObject({ replayed: false });
    expect(runs).toBe(2);
  });
});
