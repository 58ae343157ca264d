import { Controller, Get, Options, Post, Req } from '@nestjs/common';
import { Idempotent } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { PLATFORMS, send, startApp, type AnyRequest, type Answer, type HttpApp } from './http-app.js';

let runs = 0;

@Controller()
class CallersController {
  @Post('orders')
  @Idempotent()
  create(): object {
    return { run: ++runs };
  }

  @Post('scoped')
  @Idempotent({ scope: (request: AnyRequest) => String(request.headers['x-scope']) })
  scoped(@Req() _request: AnyRequest): object {
    return { run: ++runs };
  }

  @Post('throws')
  @Idempotent({
    scope: () => {
      throw new Error('no scope');
    },
  })
  throws(): object {
    return { run: ++runs };
  }

  @Get('read')
  @Idempotent()
  read(): object {
    return { run: ++runs };
  }

  @Options('read')
  @Idempotent()
  options(): object {
    return { run: ++runs };
  }

  @Get('keyed')
  @Idempotent({ key: () => 'the key' })
  async keyed(): Promise<object> {
    return { run: ++runs };
  }
}

abstract class ResourceController {
  @Post(':id')
  @Idempotent()
  create(): object {
    return { run: ++runs, by: this.constructor.name };
  }
}

@Controller('apples')
class ApplesController extends ResourceController {}

@Controller('pears')
class PearsController extends ResourceController {}

describe.each(PLATFORMS)('the caller of an idempotent request on %s', (platform) => {
  const redis = useRedis();
  let http: HttpApp;

  const start = (prepare: (request: AnyRequest) => void): Promise<HttpApp> =>
    startApp(
      platform,
      { connection: redis.server.url },
      {
        controllers: [CallersController, ApplesController, PearsController],
        prepare,
      },
    );

  beforeAll(async () => {
    http = await start((request) => {
      for (const name of ['user', 'session', 'sessionID', 'file', 'files'] as const) {
        const given = request.headers[`set-${name.toLowerCase()}`];
        if (given) request[name] = JSON.parse(String(given), revive) as unknown;
      }
    });
  });

  beforeEach(() => {
    runs = 0;
  });

  afterAll(() => http.app.close());

  const as = (user: unknown): Promise<Answer> =>
    send(http, '/orders', { headers: { 'set-user': JSON.stringify(user) } });

  it.each([
    [
      { id: 1, tenantId: 'a' },
      { id: 1, tenantId: 'b' },
    ],
    [{ id: 1, tenantId: 'a' }, { id: 1 }],
    [
      { id: 1, orgId: 'a' },
      { id: 1, tenantId: 'a' },
    ],
    [
      { sub: '1', iss: 'https://a' },
      { sub: '1', iss: 'https://b' },
    ],
    [
      { id: 1, tenant: { id: 7, name: 'x' } },
      { id: 1, tenant: { id: 8, name: 'x' } },
    ],
    [{ id: 1 }, { id: '1' }],
    [{ id: 'a","b' }, { id: 'a', tenantId: 'b' }],
    [{ id: 'ada' }, { username: 'ada' }],
    ['ada', { id: 'ada' }],
    ['anonymous', null],
  ])('[ID-5] differs between %j and %j', async (one, other) => {
    expect(await as(one)).toMatchObject({ status: 201, replayed: false });
    expect(await as(other)).toMatchObject({ status: 201, replayed: false });
    expect(await as(one)).toMatchObject({ status: 201, replayed: true });
    expect(runs).toBe(2);
  });

  it('[ID-5] is recognised by its id, whatever else changes', async () => {
    await as({ _id: { $id: 'abc' }, lastSeen: 1 });
    expect(await as({ _id: { $id: 'abc' }, lastSeen: 2 })).toMatchObject({ replayed: true });
    expect(await as({ _id: { $id: 'abd' } })).toMatchObject({ replayed: false });
  });

  it.each([[{ name: 'ada' }], [{ id: {} }], [{ id: 1, tenant: { name: 'x' } }], [true], [[]]])(
    '[ID-5] is refused for the principal %j, which could not be told from others',
    async (user) => {
      const answer = await as(user);
      expect(answer.status).toBe(500);
      expect(JSON.parse(answer.body)).toMatchObject({ code: 'CONFIGURATION' });
      expect(runs).toBe(0);
    },
  );

  it('[ID-5] is the scope that the application returns', async () => {
    const from = (scope: string): Promise<Answer> =>
      send(http, '/scoped', { headers: { 'x-scope': scope, 'set-user': '{"name":"ada"}' } });
    expect(await from('a')).toMatchObject({ status: 201, replayed: false });
    expect(await from('b')).toMatchObject({ status: 201, replayed: false });
    expect(await from('a')).toMatchObject({ replayed: true });
  });

  it('[ID-5] cannot be determined when the scope callback throws: the request gets that error and does not run', async () => {
    expect(await send(http, '/throws')).toMatchObject({ status: 500 });
    expect(runs).toBe(0);
  });

  it.each([
    ['credential', { authorization: 'Bearer a' }, { authorization: 'Bearer b' }],
    [
      'session',
      { cookie: 'x=1', 'set-session': '{"id":"1"}' },
      { cookie: 'x=2', 'set-session': '{"id":"2"}' },
    ],
    ['session', { cookie: 'x=1', 'set-sessionid': '"1"' }, { cookie: 'x=2', 'set-sessionid': '"2"' }],
    ['session', { cookie: 'x=1.signed', 'set-session': '{"sessionId":"1"}' }, { cookie: 'x=2' }],
    ['session cookie', { cookie: 'sid=1; _ga=1' }, { cookie: 'sid=2; _ga=1' }],
  ])(
    '[ID-5] with another %s gets neither the response nor a run, and the original caller gets a replay',
    async (_, own, strange) => {
      expect(await send(http, '/orders', { headers: own })).toMatchObject({ status: 201, replayed: false });
      const refused = await send(http, '/orders', { headers: strange });
      expect(refused).toMatchObject({ status: 422, replayed: false });
      expect(JSON.parse(refused.body)).toMatchObject({ code: 'IDEMPOTENCY_CALLER_MISMATCH' });
      expect(await send(http, '/orders', { headers: own })).toMatchObject({ status: 201, replayed: true });
      expect(runs).toBe(1);
    },
  );

  it('[ID-5] is one and the same when nothing distinguishes two callers, whatever their cookies and middleware', async () => {
    expect(await send(http, '/orders', { headers: { cookie: '_ga=1' } })).toMatchObject({ replayed: false });
    expect(await send(http, '/orders', { headers: { cookie: '_ga=2' } })).toMatchObject({ replayed: true });
    // A session that middleware made for this request alone.
    const made = { cookie: '_ga=1', 'set-session': '{"id":"3"}' };
    expect(await send(http, '/orders', { headers: made })).toMatchObject({ replayed: true });
    expect(runs).toBe(1);
  });

  it('[ID-5] has separate records for the routes of a base controller, and one per route whatever its parameters', async () => {
    expect(await send(http, '/apples/1')).toMatchObject({ body: '{"run":1,"by":"ApplesController"}' });
    expect(await send(http, '/pears/1')).toMatchObject({ body: '{"run":2,"by":"PearsController"}' });
    expect(await send(http, '/apples/1')).toMatchObject({ replayed: true });
    expect(await send(http, '/apples/2')).toMatchObject({ status: 422 });
  });

  it.each(['GET', 'HEAD', 'OPTIONS'])(
    '[ID-7] may send a %s request with or without a key',
    async (method) => {
      for (const key of ['k', ''])
        expect(await send(http, '/read', { method, headers: { 'idempotency-key': key } })).toMatchObject({
          replayed: false,
        });
      expect(runs).toBe(2);
      expect(await redis.client.keys('atomic:idempotency:*')).toEqual([]);
    },
  );

  it('[ID-1] is protected on a GET request whose key comes from its arguments', async () => {
    expect(await send(http, '/keyed', { method: 'GET' })).toMatchObject({ body: '{"run":1}' });
    expect(await send(http, '/keyed', { method: 'GET' })).toMatchObject({
      body: '{"run":1}',
      replayed: true,
    });
  });

  it.each([
    ['set-file', { fieldname: 'f', originalname: 'a', size: 1, buffer: { $bytes: 'a' } }, { $bytes: 'b' }],
    ['set-files', [{ fieldname: 'f', originalname: 'a', size: 1, buffer: { $bytes: 'a' } }], { $bytes: 'b' }],
    ['set-files', { f: [{ fieldname: 'f', originalname: 'a', size: 1, path: '/tmp/1' }] }, undefined],
  ])('[ID-4] cannot replay with another upload: %s %j', async (header, upload, buffer) => {
    const sends = (given: unknown): Promise<Answer> =>
      send(http, '/orders', { headers: { [header]: JSON.stringify(given) } });
    expect(await sends(upload)).toMatchObject({ status: 201 });
    expect(await sends(JSON.parse(JSON.stringify(upload).replace('/tmp/1', '/tmp/2')))).toMatchObject({
      replayed: true,
    });
    const other = JSON.stringify(upload);
    expect(
      await sends(
        JSON.parse(buffer ? other.replace('"a"}}', '"b"}}') : other.replace('"size":1', '"size":2')),
      ),
    ).toMatchObject({ status: 422 });
  });
});

/** Restores values that JSON cannot express: bytes, and the id object of a database. */
function revive(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const { $bytes, $id } = value as { $bytes?: string; $id?: string };
  if ($bytes !== undefined) return Buffer.from($bytes);
  return $id === undefined ? value : { toJSON: () => $id, toString: () => $id };
}
