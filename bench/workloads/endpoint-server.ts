import { createHash, randomBytes } from 'node:crypto';
import {
  BadRequestException,
  Body,
  ConflictException,
  Controller,
  Headers,
  HttpCode,
  Module,
  Post,
  type DynamicModule,
  type OnModuleDestroy,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Redis } from 'ioredis';
import { AtomicRedisModule, Idempotent } from 'nestjs-atomic-redis';
import { CLAIM, COMPLETE, LEASE_MS, result, TTL_MS } from './idempotent-scripts.js';

interface OrderDto {
  sku: string;
  quantity: number;
}

@Controller('orders')
class DecoratedController {
  @Post()
  @HttpCode(201)
  @Idempotent({ operation: 'orders.create' })
  create(@Body() order: OrderDto): object {
    return { ...result, ...order };
  }
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64url');

/** The same by hand: header checked, key and payload hashed, claimed, done, stored, replayed. */
@Controller('orders')
class HandWrittenController implements OnModuleDestroy {
  private readonly client = new Redis(process.argv[4]!);
  private readonly scripts = Promise.all([
    this.client.script('LOAD', CLAIM),
    this.client.script('LOAD', COMPLETE),
  ]) as Promise<[string, string]>;

  @Post()
  @HttpCode(201)
  async create(
    @Headers('idempotency-key') key: string | undefined,
    @Headers('authorization') credential: string | undefined,
    @Body() order: OrderDto,
  ): Promise<unknown> {
    if (!key || !/^[\x21-\x7e]{1,255}$/.test(key))
      throw new BadRequestException('Idempotency-Key is missing');
    const [claim, complete] = await this.scripts;
    const record = `hand:${sha256(`${credential ?? 'anonymous'}\0orders.create\0${key}`)}`;
    const token = randomBytes(16).toString('base64url');
    let answer: string;
    try {
      answer = (await this.client.evalsha(
        claim,
        1,
        record,
        token,
        sha256(JSON.stringify(order)),
        LEASE_MS,
      )) as string;
    } catch (error) {
      throw new ConflictException((error as Error).message);
    }
    if (answer !== 'claimed') return JSON.parse(answer) as unknown;
    const created = { ...result, ...order };
    await this.client.evalsha(complete, 1, record, token, JSON.stringify(created), TTL_MS);
    return created;
  }

  onModuleDestroy(): void {
    this.client.disconnect();
  }
}

@Module({})
class BenchModule {
  static of(kind: string, url: string): DynamicModule {
    return kind === 'decorated'
      ? {
          module: BenchModule,
          imports: [AtomicRedisModule.forRoot({ connection: url, namespace: 'atomic:' })],
          controllers: [DecoratedController],
        }
      : { module: BenchModule, controllers: [HandWrittenController] };
  }
}

const [, , platform, kind, url] = process.argv as [string, string, string, string, string];
const root = BenchModule.of(kind, url);
const app =
  platform === 'fastify'
    ? await NestFactory.create(root, new FastifyAdapter(), { logger: ['error'] })
    : await NestFactory.create(root, { logger: ['error'] });
await app.listen(0, '127.0.0.1');
const { port } = app.getHttpServer().address() as { port: number };
process.send!({ port });
process.on('message', (message) => {
  if (message === 'cpu') process.send!(process.cpuUsage());
  else void app.close().then(() => process.exit(0));
});
