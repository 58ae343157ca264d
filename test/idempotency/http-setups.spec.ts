import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { Controller, Logger, Post, Req, type ExecutionContext, type INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { AtomicRedisModule, Idempotent } from 'nestjs-atomic-redis';
import { sectionOf } from '../docs/examples.js';
import { useRedis } from '../support/redis.js';
import { PLATFORMS, type AnyRequest } from './http-app.js';
import { SET_UPS, type Gets, type LogIn, type SetUp } from './http-setups.js';

let runs = 0;

@Controller()
class OrdersController {
  /** Puts what is named into the session: `userId:ada`; only a name is a user of Passport. */
  @Post('log-in')
  logIn(@Req() { headers, session }: AnyRequest): object {
    const [field, value] = String(headers['log-in']).split(':');
    (session as Record<string, unknown>)[value === undefined ? 'passport' : field!] =
      value === undefined ? { user: field } : field === 'userId' ? value : { id: value };
    return {};
  }

  @Post('orders')
  @Idempotent()
  create(): object {
    return { run: ++runs };
  }
}

const fixture = (name: string): Buffer => readFileSync(path.join(__dirname, '../fixtures', name));
const clientCertificate = (who: string, attempt: number): Buffer =>
  fixture(`tls-client-${who}-${attempt}.pem`);
const serverTls = {
  key: fixture('tls-key.pem'),
  cert: fixture('tls-cert.pem'),
  requestCert: true,
  rejectUnauthorized: false,
  ca: [clientCertificate('ada', 1), clientCertificate('ada', 2), clientCertificate('bob', 1)],
};

interface Sent {
  readonly status: number;
  readonly code: unknown;
  readonly replayed: boolean;
  readonly cookie: string;
  readonly body: string;
}

describe.each(PLATFORMS)('the usual set-ups on %s', (platform) => {
  const redis = useRedis();
  let app: INestApplication | undefined;
  let warn: jest.SpyInstance;
  let error: jest.SpyInstance;

  beforeEach(() => {
    runs = 0;
    warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    error = jest.spyOn(Logger.prototype, 'error').mockImplementation();
  });

  afterEach(async () => {
    jest.restoreAllMocks();
    await app?.close();
    app = undefined;
  });

  async function start(setUp: SetUp): Promise<number> {
    const module = AtomicRedisModule.forRoot({
      connection: redis.server.url,
      namespace: 'atomic:',
      ...(setUp.idempotency && { idempotency: setUp.idempotency }),
    });
    const root = { module: class App {}, imports: [module], controllers: [OrdersController] };
    const https = setUp.hasCertificate ? serverTls : undefined;
    app =
      platform === 'fastify'
        ? await NestFactory.create(root, new FastifyAdapter(https ? { https } : {}), { logger: false })
        : await NestFactory.create(root, { logger: false, ...(https && { httpsOptions: https }) });
    await setUp.configure?.(app, platform);
    app.useGlobalGuards({
      canActivate: async (context: ExecutionContext) => {
        const request = context.switchToHttp().getRequest<AnyRequest>();
        if (request.url !== '/log-in') await setUp.guard?.(request, platform);
        return true;
      },
    });
    await app.listen(0, '127.0.0.1');
    return (app.getHttpServer() as { address(): AddressInfo }).address().port;
  }

  /** By the bare client: fetch has ideas of its own about `host`. */
  function post(
    port: number,
    to: string,
    headers: Record<string, string>,
    certificate?: Buffer,
  ): Promise<Sent> {
    return new Promise((resolve, reject) => {
      const options = {
        port,
        host: '127.0.0.1',
        path: to,
        method: 'POST',
        agent: false as const,
        headers: { 'idempotency-key': 'k', 'content-type': 'application/json', ...headers },
      };
      const tls = { cert: certificate, key: certificate, rejectUnauthorized: false };
      const request = certificate ? httpsRequest({ ...options, ...tls }) : httpRequest(options);
      request.once('error', reject);
      request.once('response', (response) => {
        text(response).then(
          (body) =>
            resolve({
              status: response.statusCode!,
              code: (JSON.parse(body) as { code?: unknown }).code,
              replayed: response.headers['idempotency-replayed'] === 'true',
              cookie: (response.headers['set-cookie'] ?? []).map((one) => one.split(';')[0]).join('; '),
              body,
            }),
          reject,
        );
      });
      request.end('{}');
    });
  }

  function expectGot(sent: Sent, gets: Gets, run: number): void {
    if (gets === 'the first response')
      expect(sent).toMatchObject({ status: 201, replayed: true, body: '{"run":1}' });
    else if (gets === 'a run of its own')
      expect(sent).toMatchObject({ status: 201, replayed: false, body: `{"run":${run}}` });
    else expect(sent).toMatchObject({ status: Number(gets), replayed: false });
    if (gets === '422') expect(sent.code).toBe('IDEMPOTENCY_CALLER_MISMATCH');
    if (gets === '403') expect(sent.code).toBe('IDEMPOTENCY_CALLER_UNKNOWN');
  }

  it.each(SET_UPS.map((setUp): [string, SetUp] => [setUp.name, setUp]))(
    '[ID-5] %s: an honest retry and a stranger with the same key and payload get the documented responses',
    async (_, setUp) => {
      const port = await start(setUp);
      const logIn: LogIn = async (who) => ({
        cookie: (await post(port, '/log-in', { 'log-in': who })).cookie,
      });
      const sessions = new Map<string, Promise<Record<string, string>>>();
      const logInOnce: LogIn = (who) => {
        if (!sessions.has(who)) sessions.set(who, logIn(who));
        return sessions.get(who)!;
      };
      const attempt = async (who: 'ada' | 'bob', n: number): Promise<Sent> =>
        await post(
          port,
          '/orders',
          await setUp.as(who, n, logInOnce),
          setUp.hasCertificate ? clientCertificate(who, n) : undefined,
        );
      const first = await attempt('ada', 1);
      if (setUp.retry !== '403')
        expect(first).toMatchObject({ status: 201, replayed: false, body: '{"run":1}' });
      const stranger = await attempt('bob', 1);
      expectGot(stranger, setUp.stranger, 2);
      expectGot(await attempt('ada', 2), setUp.retry, 3);
      const refusals = [setUp.retry, setUp.stranger].filter((gets) => gets === '422').length;
      const told = warn.mock.calls
        .map(([message]) => String(message))
        .filter((message) => message.includes('scope'));
      expect(told).toHaveLength(refusals);
      expect(error).not.toHaveBeenCalled();
      const [record] = await redis.client.keys('*idempotency:*');
      if (setUp.stranger === '422') {
        expect(stranger.body).not.toContain(record?.split(':').at(-1));
        // The problem's own id is random.
        expect(stranger.body.replace(/urn:uuid:[\w-]+/, '')).not.toMatch(/\d{4,}/);
      }
    },
  );
});

it('[DOC-3] the table of set-ups in docs/idempotency.md matches the tested ones', () => {
  const rows = sectionOf('docs/idempotency.md', 'Whose key it is')
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  const documented = rows.filter(([name]) => SET_UPS.some((setUp) => setUp.name === name));
  expect(documented).toEqual(
    SET_UPS.map(({ name, named, retry, stranger }) => [name, named, retry, stranger]),
  );
});
