import { Test, type TestingModule } from '@nestjs/testing';
import { AtomicRedis, AtomicRedisModule, type AtomicRedisOptions } from 'nestjs-atomic-redis';

/**
 * The library's services, as an application gets them, for each test. Call it inside `describe`.
 */
export function useAtomicRedis(options: () => AtomicRedisOptions): { readonly services: AtomicRedis } {
  let app: TestingModule | undefined;

  beforeEach(async () => {
    app = await Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot({ shutdownTimeoutMs: 1_000, ...options() })],
    }).compile();
    app.useLogger(false);
    await app.init();
  });

  afterEach(() => app?.close());

  return {
    get services() {
      return app!.get(AtomicRedis);
    },
  };
}
