import { setTimeout as sleep } from 'node:timers/promises';
import {
  Controller,
  Module,
  Post,
  type INestApplicationContext,
  type LoggerService,
  type Type,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, Transport } from '@nestjs/microservices';
import { AtomicRedisModule, QueueConsumer } from '../../lib/index.js';
import { worker } from '../support/worker.js';

/** Nest's overload that leaves the types of the handler's parameters alone. */
const OnEvent = EventPattern as (pattern: string) => MethodDecorator;

export interface NoticeJob {
  url: string;
  kind: 'HTTP' | 'messages' | 'jobs' | 'script' | 'initialised only';
  hooks: 'none' | 'before listen' | 'after listen' | 'own';
  env?: Record<string, string>;
}

/**
 * Starts an application as production does, and returns its warnings once one about SIGTERM is due.
 */
worker<NoticeJob>(async ({ data: { url, kind, hooks, env } }) => {
  Object.assign(process.env, { NODE_ENV: 'production', ...env });
  const warnings: string[] = [];
  const nothing = (): void => undefined;
  const logger: LoggerService = {
    log: nothing,
    error: nothing,
    warn: (message: unknown) => void warnings.push(String(message)),
  };

  @Controller()
  class Orders {
    @Post()
    create(): void {}
  }

  @Controller()
  class Shipping {
    @OnEvent('orders.paid')
    onPaid(): void {}
  }

  @Controller()
  class Mails {
    @QueueConsumer('mails')
    send(): void {}
  }

  @Module({
    imports: [
      AtomicRedisModule.forRoot({ connection: url, namespace: 'atomic:' }),
      AtomicRedisModule.forRoot({ connection: url, namespace: 'atomic:', name: 'second' }),
    ],
    controllers: [Orders, ...(kind === 'messages' ? [Shipping] : []), ...(kind === 'jobs' ? [Mails] : [])],
  })
  class AppModule {}

  if (hooks === 'own') process.on('SIGTERM', nothing);
  const { app, begin } = await create(kind, AppModule, logger);
  if (hooks === 'before listen') app.enableShutdownHooks();
  await begin();
  if (hooks === 'after listen') app.enableShutdownHooks();
  await sleep(1_500);
  await app.close();
  return warnings.filter((warning) => warning.includes('SIGTERM'));
});

/** An application of its kind, and how it begins to serve. */
async function create(
  kind: NoticeJob['kind'],
  AppModule: Type,
  logger: LoggerService,
): Promise<{ app: INestApplicationContext; begin: () => Promise<unknown> }> {
  if (kind === 'messages') {
    const options = { transport: Transport.TCP, options: { host: '127.0.0.1', port: 0 }, logger } as const;
    const app = await NestFactory.createMicroservice(AppModule, options);
    return { app, begin: () => app.listen() };
  }
  if (kind === 'script' || kind === 'jobs') {
    const app = await NestFactory.createApplicationContext(AppModule, { logger });
    return { app, begin: () => Promise.resolve() };
  }
  const app = await NestFactory.create(AppModule, { logger });
  return {
    app,
    begin: () => (kind === 'HTTP' ? app.listen(0, '127.0.0.1') : app.init()) as Promise<unknown>,
  };
}
