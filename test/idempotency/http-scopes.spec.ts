import { Controller, Injectable, Logger, Post, Req } from '@nestjs/common';
import {
  AtomicRedisEvents,
  callerEvidence,
  callerScope,
  Idempotent,
  IdempotencyCallerMismatchError,
  IdempotencyMismatchError,
  IdempotencyService,
  type AtomicRedisOptions,
} from 'nestjs-atomic-redis';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { readRecord } from '../support/idempotency-record.js';
import { PLATFORMS, send, startApp, type AnyRequest, type Answer, type HttpApp } from './http-app.js';
import { gate, useInstances } from './support.js';

let runs = 0;

/** Looks a user up like an application: later, and none for guests. */
const userOf = async (request: Pick<AnyRequest, 'headers'>): Promise<string> => {
  await Promise.resolve();
  return request.headers['set-user'] as string;
};

@Controller()
class OrdersController {
  @Post('default')
  @Idempotent()
  byDefault(): object {
    return { run: ++runs };
  }

  @Post('own')
  @Idempotent({ scope: (request: AnyRequest) => userOf(request).then((user) => `own ${user}`) })
  own(@Req() _request: AnyRequest): object {
    return { run: ++runs };
  }

  @Post('guests')
  @Idempotent({ scope: (request: AnyRequest) => request.headers['set-user'] as string })
  guests(@Req() _request: AnyRequest): object {
    return { run: ++runs };
  }

  @Post('required')
  @Idempotent({ requireCaller: true })
  required(): object {
    return { run: ++runs };
  }
}

@Injectable()
class Jobs {
  @Idempotent({ key: () => 'job', scope: async (tenant: string) => tenant, operation: 'jobs' })
  async work(tenant: string): Promise<string> {
    return `${tenant} ${++runs}`;
  }
}

describe.each(PLATFORMS)('the scope that an application gives on %s', (platform) => {
  const redis = useRedis();
  let http: HttpApp;

  const start = async (idempotency: AtomicRedisOptions['idempotency']): Promise<void> => {
    const parts = { controllers: [OrdersController], providers: [Jobs] };
    http = await startApp(platform, { connection: redis.server.url, idempotency }, parts);
  };

  beforeEach(() => {
    runs = 0;
  });

  afterEach(() => http.app.close());

  const as = (path: string, user: string, headers: Record<string, string> = {}): Promise<Answer> =>
    send(http, path, { headers: { ...(user && { 'set-user': user }), ...headers } });

  it('[ID-5] of the module alone decides, also later, and the decorator’s overrides it', async () => {
    const scope = jest.fn(userOf);
    await start({ scope: (request) => scope(request) });
    expect(await as('/default', 'ada', { authorization: 'Bearer 1' })).toMatchObject({ body: '{"run":1}' });
    expect(await as('/default', 'ada', { authorization: 'Bearer 2', 'x-tenant-id': 'blue' })).toMatchObject({
      status: 201,
      replayed: true,
    });
    expect(await as('/default', 'bob')).toMatchObject({ body: '{"run":2}', replayed: false });
    expect(scope).toHaveBeenCalledTimes(3);
    expect(await as('/own', 'ada')).toMatchObject({ body: '{"run":3}' });
    expect(await as('/own', 'ada')).toMatchObject({ body: '{"run":3}', replayed: true });
    expect(scope).toHaveBeenCalledTimes(3);
    const idempotency = http.app.get(IdempotencyService);
    expect(await idempotency.run('job', () => 'mine', { operation: 'jobs', scope: 'blue' })).toBe('mine');
    expect(await http.app.get(Jobs).work('blue')).toBe('mine');
    expect(await http.app.get(Jobs).work('red')).toBe('red 4');
  });

  it.each([
    ['/default', 'idempotency.scope of the module'],
    ['/guests', 'scope of @Idempotent() on OrdersController.guests'],
  ])('[ID-5] is refused on %s if it is invalid, and the error names it', async (path, named) => {
    await start({ scope: (request) => userOf(request) });
    const error = jest.spyOn(Logger.prototype, 'error').mockImplementation();
    try {
      const counts = await countCommands(redis.client, async () => {
        const refused = await as(path, '');
        expect(refused).toMatchObject({ status: 500 });
        expect(JSON.parse(refused.body)).toMatchObject({ code: 'CONFIGURATION' });
      });
      expect(counts.evalsha).toBeUndefined();
      expect(error.mock.calls.flat().join()).toMatch(named);
      expect(error.mock.calls.flat().join()).toMatch(/undefined.*'guest'/);
    } finally {
      error.mockRestore();
    }
    expect(await as(path, 'guest')).toMatchObject({ status: 201 });
    expect(await as(path, 'guest')).toMatchObject({ status: 201, replayed: true });
    expect(runs).toBe(1);
  });

  it('[ID-5] that throws fails the request with its error, and is requested again by the next attempt', async () => {
    let fails = true;
    await start({
      scope: async () => {
        if (fails) throw new Error('the directory is away');
        return 'ada';
      },
    });
    expect(await as('/default', 'ada')).toMatchObject({ status: 500 });
    fails = false;
    expect(await as('/default', 'ada')).toMatchObject({ status: 201, body: '{"run":1}' });
  });

  it('[ID-5] is not needed if a route requires a caller and has one', async () => {
    await start({});
    const refused = await as('/required', '');
    expect(refused).toMatchObject({ status: 403 });
    expect(JSON.parse(refused.body)).toMatchObject({ code: 'IDEMPOTENCY_CALLER_UNKNOWN' });
    expect(await as('/required', '', { 'x-tenant-id': 'blue' })).toMatchObject({ status: 403 });
    expect(await as('/required', '', { authorization: 'Bearer 1' })).toMatchObject({ status: 201 });
    expect(runs).toBe(1);
  });
});

describe('the evidence of a call', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));

  it.each([undefined, { maxBytes: 100_000 }])(
    '[ID-5] is compared before payload and state, with a replay cache of %j',
    async (replayCache) => {
      const { idempotency, events } = await instances.start({
        idempotency: { ...(replayCache && { replayCache }) },
      });
      const { promise, resolve } = gate();
      const call = (evidence: string, fingerprint: string, onDuplicate: 'refuse' | 'wait' = 'refuse') =>
        idempotency.run('k', () => promise.then(() => 'mine'), { evidence, fingerprint, onDuplicate });
      const first = call('a', 'x');
      const stranger = async (): Promise<void> => {
        for (const evidence of ['b', ''])
          for (const fingerprint of ['x', 'y'])
            for (const onDuplicate of ['refuse', 'wait'] as const)
              await expect(call(evidence, fingerprint, onDuplicate)).rejects.toThrow(
                IdempotencyCallerMismatchError,
              );
        await expect(call('a', 'y')).rejects.toThrow(IdempotencyMismatchError);
      };
      await stranger();
      const waiting = call('a', 'x', 'wait');
      resolve();
      expect(await first).toBe('mine');
      expect(await waiting).toBe('mine');
      await stranger();
      expect(await call('a', 'x')).toBe('mine');
      const refusals = () =>
        events.filter((event) => 'outcome' in event && event.outcome === 'caller-mismatch').length;
      await waitFor('the events', () => refusals() === 16);
    },
  );

  it('[ID-5] is kept as a hash that differs from record to record', async () => {
    const { idempotency } = await instances.start();
    for (const key of ['k', 'l']) await idempotency.run(key, () => 1, { evidence: 'Bearer secret' });
    const keys = await redis.client.keys('*idempotency:*');
    const records = await Promise.all(keys.map((key) => readRecord(redis.client, key)));
    const [one, other] = records.map((record) => record!.fingerprint);
    expect(one).toMatch(/^[\w-]{22}:$/);
    expect(other).toMatch(/^[\w-]{22}:$/);
    expect(one).not.toBe(other);
  });

  it('[ID-5] of a request is the decorator’s own', async () => {
    const http = await startApp(
      'express',
      { connection: redis.server.url },
      { controllers: [OrdersController] },
    );
    try {
      const headers = { authorization: 'Bearer 1', host: '127.0.0.1' };
      let operation = '';
      const told = gate();
      http.app.get(AtomicRedisEvents).subscribe((event) => {
        if (event.type !== 'idempotency.run') return;
        operation = event.operation;
        told.resolve();
      });
      expect(await send(http, '/default', { headers: { authorization: 'Bearer 1' } })).toMatchObject({
        status: 201,
      });
      await told.promise;
      const idempotency = http.app.get(IdempotencyService);
      const scope = callerScope({ headers });
      expect(await idempotency.inspect('k', { operation, scope })).toMatchObject({ state: 'completed' });
      const run = (evidence: string) =>
        idempotency.run('k', () => 1, { operation, scope, evidence, fingerprint: 1 });
      await expect(run(callerEvidence({ headers }))).rejects.toThrow(IdempotencyMismatchError);
      await expect(run('')).rejects.toThrow(IdempotencyCallerMismatchError);
      expect(await idempotency.forget('k', { operation, scope })).toBe(true);
    } finally {
      await http.app.close();
    }
  });
});
