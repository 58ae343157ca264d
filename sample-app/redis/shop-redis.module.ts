import {
  Global,
  Inject,
  Logger,
  Module,
  type DynamicModule,
  type OnApplicationShutdown,
} from '@nestjs/common';
import { Redis } from 'ioredis';

/**
 * The shop's own client, for its plain reads and writes. The library opens its own connections and
 * leaves this one alone.
 */
@Global()
@Module({})
export class ShopRedisModule implements OnApplicationShutdown {
  private readonly logger = new Logger(ShopRedisModule.name);

  constructor(@Inject(Redis) private readonly redis: Redis) {
    redis.on('error', (error: Error) => this.logger.warn(error.message));
  }

  static forRoot(url: string): DynamicModule {
    // Connects at the first command, by when the library has found Redis reachable, or has refused
    // to boot.
    const client = { provide: Redis, useFactory: () => new Redis(url, { lazyConnect: true }) };
    return { module: ShopRedisModule, providers: [client], exports: [client] };
  }

  onApplicationShutdown(): void {
    // Every request has been answered by now: no reply is outstanding.
    this.redis.disconnect();
  }
}
