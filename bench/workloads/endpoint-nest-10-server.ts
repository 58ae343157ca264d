import { createRequire } from 'node:module';
import { join } from 'node:path';
import { create, serve, type OrderDto } from './endpoint-process.js';

/**
 * Endpoints on the version of Nest that @node-idempotency/nestjs supports, from a folder of its own
 * (`BENCH_NEST_10`).
 */
const require = createRequire(join(process.env['BENCH_NEST_10']!, 'package.json'));
require('reflect-metadata');
const { Body, Controller, HttpCode, Module, Post } =
  require('@nestjs/common') as typeof import('@nestjs/common');
const { NestFactory } = require('@nestjs/core') as typeof import('@nestjs/core');
const { FastifyAdapter } = require('@nestjs/platform-fastify') as typeof import('@nestjs/platform-fastify');

interface NodeIdempotency {
  readonly Idempotent: () => MethodDecorator;
  readonly NodeIdempotencyModule: {
    forRootAsync(options: object): import('@nestjs/common').DynamicModule;
  };
}
const { Idempotent, NodeIdempotencyModule } = require('@node-idempotency/nestjs') as NodeIdempotency;

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
  @Idempotent()
  create(@Body() order: OrderDto): object {
    return create(order);
  }
}

@Module({})
class BenchModule {}

const [, , platform, kind, url] = process.argv as [string, string, string, string, string];
const root =
  kind === 'node-idempotency'
    ? {
        module: BenchModule,
        imports: [NodeIdempotencyModule.forRootAsync({ storage: { adapter: 'redis', options: { url } } })],
        controllers: [DecoratedController],
      }
    : { module: BenchModule, controllers: [BareController] };
const app =
  platform === 'fastify'
    ? await NestFactory.create(root, new FastifyAdapter(), { logger: ['error'] })
    : await NestFactory.create(root, { logger: ['error'] });
await serve(app);
