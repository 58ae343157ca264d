import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Redis } from 'ioredis';
import { CounterService, TransactionService } from 'nestjs-atomic-redis';
import { startRedisServer, type RedisServer } from '../../lib/testing/index.js';
import { useApp } from '../support/app.js';
import { freePort } from '../support/free-port.js';

// Made for these tests, for localhost only; the key is no secret.
const CERTIFICATE = path.join(__dirname, '../fixtures/tls-cert.pem');
const KEY = path.join(__dirname, '../fixtures/tls-key.pem');

describe('a server that speaks TLS and wants a password', () => {
  const boot = useApp();
  let server: RedisServer;
  let tlsPort: number;

  beforeAll(async () => {
    tlsPort = await freePort();
    const tls = ['--tls-port', String(tlsPort), '--tls-cert-file', CERTIFICATE, '--tls-key-file', KEY];
    const args = [
      ...tls,
      '--tls-ca-cert-file',
      CERTIFICATE,
      '--tls-auth-clients',
      'no',
      '--requirepass',
      'secret',
    ];
    server = await startRedisServer({ binary: process.env.TEST_REDIS_BINARY, args });
  });

  afterAll(() => server.stop());

  it.each(['options', 'an existing client'])(
    '[MOD-7] is reached by %s, transactions included',
    async (form) => {
      const tls = { ca: readFileSync(CERTIFICATE) };
      const options = { host: 'localhost', port: tlsPort, password: 'secret', tls };
      const mine = new Redis({ ...options, lazyConnect: true });
      const connection = form === 'options' ? options : mine;
      const app = await boot({ connection, timeoutMs: 3_000 });
      await app.get(TransactionService).run(['k'], (tx) => void tx.write.set('k', form));
      await app.get(CounterService).add(form, 1);
      await mine.connect();
      expect(await mine.mget('k', form)).toEqual([form, '1']);
      mine.disconnect();
    },
  );
});
