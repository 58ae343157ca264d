import {
  Body,
  Controller,
  HttpCode,
  Module,
  Post,
  UseInterceptors,
  type DynamicModule,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Redis } from 'ioredis';
import { AtomicRedisModule, Idempotent } from 'nestjs-atomic-redis';
import { HandWritten } from './endpoint-by-hand.js';
import { TutorialInterceptor } from './endpoint-interceptor.js';
import { create, serve, type OrderDto } from './endpoint-process.js';

@Controller('orders')
class BareController {
  @Post()
  @HttpCode(201)
  create(@Body() order: OrderDto): object {
    return create(order);
  }
}

@Controller('orders')
class DecoratedController {
  @Post()
  @HttpCode(201)
  @Idempotent({ operation: 'orders.create' })
  create(@Body() order: OrderDto): object {
    return create(order);
  }
}

@Controller('orders')
class InterceptedController {
  @Post()
  @HttpCode(201)
  @UseInterceptors(TutorialInterceptor)
  create(@Body() order: OrderDto): object {
    return create(order);
  }
}

@Module({})
class BenchModule {}

const [, , platform, kind, url] = process.argv as [string, string, string, string, string];
const client = new Redis(url);
const roots: Record<string, DynamicModule> = {
  decorated: {
    module: BenchModule,
    imports: [AtomicRedisModule.forRoot({ connection: url, namespace: 'atomic:' })],
    controllers: [DecoratedController],
  },
  interceptor: {
    module: BenchModule,
    controllers: [InterceptedController],
    providers: [TutorialInterceptor, { provide: Redis, useValue: client }],
  },
};
const root = roots[kind] ?? { module: BenchModule, controllers: [BareController] };
const app =
  platform === 'fastify'
    ? await NestFactory.create(root, new FastifyAdapter(), { logger: ['error'] })
    : await NestFactory.create(root, { logger: ['error'] });
if (kind === 'by hand') (await HandWritten.on(client)).addTo(app, platform);
await serve(app, () => client.disconnect());
