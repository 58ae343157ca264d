import { Logger } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { AtomicRedis, AtomicRedisModule, type AtomicRedisOptions } from '../../lib/index.js';

export interface Booted {
  readonly app: TestingModule;
  readonly redis: AtomicRedis;
}

/**
 * Starts applications with the module and nothing else; each is closed after its test. What the
 * library logs meanwhile is kept, and not printed. Call it inside `describe`.
 */
export function useBoot() {
  const apps: TestingModule[] = [];
  let lines: string[] = [];

  beforeEach(() => {
    lines = [];
    for (const level of ['log', 'warn', 'error'] as const)
      jest.spyOn(Logger.prototype, level).mockImplementation((...[message]: unknown[]) => {
        if (!String(message).endsWith('dependencies initialized')) lines.push(`${level}: ${String(message)}`);
      });
  });

  afterEach(async () => {
    await Promise.all(apps.splice(0).map((app) => app.close()));
    jest.restoreAllMocks();
  });

  const boot = async (options: Partial<AtomicRedisOptions>): Promise<Booted> => {
    const given = { namespace: 'atomic:', ...options } as AtomicRedisOptions;
    const app = await Test.createTestingModule({ imports: [AtomicRedisModule.forRoot(given)] }).compile();
    await app.init();
    apps.push(app);
    return { app, redis: app.get(AtomicRedis) };
  };

  return {
    /** `level: message` */
    get lines(): readonly string[] {
      return lines;
    },
    boot,
    /** The error that keeps an application from starting. */
    async bootError(options: AtomicRedisOptions): Promise<Error> {
      try {
        await boot(options);
      } catch (error) {
        return error as Error;
      }
      throw new Error('the application has started');
    },
  };
}
