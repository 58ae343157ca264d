import { Logger } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import { AtomicRedis, type AtomicRedisOptions } from '../../lib/index.js';
import { useApp } from './app.js';

export interface Booted {
  readonly app: TestingModule;
  readonly redis: AtomicRedis;
}

/**
 * Starts applications with the module and nothing else; each is closed after its test. What the
 * library logs meanwhile is kept, and not printed. Call it inside `describe`.
 */
export function useBoot() {
  const start = useApp();
  let lines: string[] = [];

  beforeEach(() => {
    lines = [];
    for (const level of ['log', 'warn', 'error'] as const)
      jest.spyOn(Logger.prototype, level).mockImplementation((...[message]: unknown[]) => {
        if (!String(message).endsWith('dependencies initialized')) lines.push(`${level}: ${String(message)}`);
      });
  });

  afterEach(() => jest.restoreAllMocks());

  const boot = async (options: Partial<AtomicRedisOptions>): Promise<Booted> => {
    const app = await start(options);
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
