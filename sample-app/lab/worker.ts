import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { AppModule } from '../app.module.js';
import { refuseForeignHosts } from '../http/known-host.js';

/**
 * A process of the shop as the lab's callers reach it: the whole shop, on loopback. It goes when
 * the lab's process goes.
 */
process.on('disconnect', () => process.exit());
// Ctrl-C in a terminal reaches this process too: the lab decides when it ends.
process.on('SIGINT', () => {});

const root = AppModule.withRedis(process.env['REDIS_URL']!, {
  paymentProviderUrl: process.env['PAYMENT_PROVIDER_URL'],
});
const app = await NestFactory.create(root, { logger: ['fatal'] });
refuseForeignHosts(app, '127.0.0.1');
await app.listen(0, '127.0.0.1');
const { port } = app.getHttpServer().address() as { port: number };
process.send!({ url: `http://127.0.0.1:${port}` });
