import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { AtomicRedisError } from 'nestjs-atomic-redis';
import {
  RedisServerNotFoundError,
  RedisServerStartError,
  startRedisServer,
  type RedisServer,
} from 'nestjs-atomic-redis/testing';
import { AppModule } from './app.module.js';
import { serveGuide } from './guide/serve-guide.js';
import { refuseForeignHosts } from './http/known-host.js';
import { serveOpenApi } from './http/open-api.js';
import { serveLabPage } from './lab/serve-page.js';

/** The message holds all that a person needs. */
class StartError extends Error {}

async function main(): Promise<void> {
  const port = portFrom(process.env['PORT']);
  // The lab kills processes and takes requests from anyone who reaches it: other machines only
  // where that is asked for.
  const host = process.env['HOST'] || '127.0.0.1';
  const redisUrl = process.env['REDIS_URL'];
  const embedded = redisUrl ? undefined : await startRedisServer();
  try {
    await openShop(redisUrl || embedded!.url, { host, port }, embedded);
  } catch (error) {
    await embedded?.stop();
    throw error;
  }
}

interface Address {
  host: string;
  port: number;
}

async function openShop(
  redisUrl: string,
  { host, port }: Address,
  embedded: RedisServer | undefined,
): Promise<void> {
  // The lab breaks connections and empties a database: never those of a Redis that is not the
  // shop's own.
  const root = AppModule.withRedis(redisUrl, {
    lab: embedded !== undefined,
    paymentProviderUrl: process.env['PAYMENT_PROVIDER_URL'],
  });
  const app = await NestFactory.create<NestExpressApplication>(root, {
    logger: ['warn', 'error', 'fatal'],
    abortOnError: false,
  });
  refuseForeignHosts(app, host);
  serveOpenApi(app);
  serveGuide(app, { lab: embedded !== undefined });
  if (embedded) serveLabPage(app);
  try {
    await app.listen(port, host);
  } catch (error) {
    await app.close();
    throw startErrorOf(error as NodeJS.ErrnoException, { host, port }) ?? error;
  }

  // app.enableShutdownHooks() is enough where there is no embedded Redis to stop last.
  let closing: Promise<void> | undefined;
  const shutDown = (): void => {
    closing ??= app.close().then(() => embedded?.stop());
  };
  // On, not once: a Ctrl-C arrives twice, from the terminal and from the script that started the
  // shop.
  process.on('SIGINT', shutDown).on('SIGTERM', shutDown);
  if (process.connected) {
    process.on('disconnect', shutDown);
    // The listener would keep the process alive when all else is closed.
    process.channel?.unref();
  }

  const { port: actualPort } = app.getHttpServer().address() as { port: number };
  greet(`http://localhost:${actualPort}`, embedded);
}

function startErrorOf({ code }: NodeJS.ErrnoException, { host, port }: Address): StartError | undefined {
  if (code === 'EADDRINUSE') {
    return new StartError(`Port ${port} is taken. Choose another by PORT, or any free one by PORT=0.`);
  }
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
    return new StartError(`HOST must be a name or an address of this machine, received "${host}".`);
  }
  return undefined;
}

function portFrom(given: string | undefined): number {
  const port = given ? Number(given) : 3000;
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new StartError(`PORT must be a number from 0 to 65535, received "${given}".`);
  }
  return port;
}

function greet(url: string, embedded: RedisServer | undefined): void {
  const post = (path: string, body: object, header = ''): string =>
    `  curl -i ${url}${path} ${header}-H 'Content-Type: application/json' -d '${JSON.stringify(body)}'`;
  console.log(
    [
      embedded
        ? `Redis: ${embedded.url}, process ${embedded.pid}, in memory, gone when the shop goes`
        : 'Redis: the one in REDIS_URL',
      `Shop: ${url}`,
      `API: ${url}/docs`,
      `Documentation: ${url}/guide`,
      ...(embedded ? ['Race lab: open the same address in a browser'] : []),
      '',
      'Try each twice, or a hundred times at once:',
      post('/orders', { sku: 'tea', quantity: 2 }, `-H 'Idempotency-Key: my-first-order' `),
      post('/accounts/alice/withdrawals', { amount: 10 }),
      post('/inventory/tea/reservations', { quantity: 1 }),
    ].join('\n'),
  );
}

try {
  await main();
} catch (error) {
  const isSaidPlainly = [StartError, AtomicRedisError, RedisServerNotFoundError, RedisServerStartError].some(
    (type) => error instanceof type,
  );
  console.error(isSaidPlainly ? (error as Error).message : error);
  process.exitCode = 1;
}
