import { Global, Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import { Redis } from 'ioredis';

/** The shop's own client, for its plain reads and writes. The library opens its own connections and leaves this one alone. */
@Global()
@Module({})
export class ShopRedisModule implements OnApplicationShutdown {
  constructor(@Inject(Redis) private readonly redis: Redis) {}

  static forRoot(url: string): DynamicModule {
    const client = { provide: Redis, useFactory: () => new Redis(url) };
    return { module: ShopRedisModule, providers: [client], exports: [client] };
  }

  async onApplicationShutdown(): Promise<void> {
    await this.redis.quit();
  }
}
