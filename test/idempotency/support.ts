import { Test, type TestingModule } from '@nestjs/testing';
import {
  AtomicRedisEvents,
  AtomicRedisModule,
  IdempotencyService,
  type AtomicRedisEvent,
  type AtomicRedisOptions,
  type ResultCodec,
} from 'nestjs-atomic-redis';
import type { FaultOptions } from 'nestjs-atomic-redis/testing';

/** Of calls of `IdempotencyService.run` and of methods with `@Idempotent`. */
export type RunEvent = Extract<AtomicRedisEvent, { record: string }>;

export const isRunEvent = (event: AtomicRedisEvent): event is RunEvent => 'record' in event;

export interface Instance {
  readonly idempotency: IdempotencyService;
  /** Of runs and duplicates, all so far. They arrive a little after what they tell of. */
  readonly events: RunEvent[];
  readonly module: TestingModule;
}

/** Instances of the module, as processes of their own would have. Call it inside `describe`. */
export function useInstances(defaults: () => AtomicRedisOptions): {
  start(options?: Partial<AtomicRedisOptions>): Promise<Instance>;
} {
  const modules: TestingModule[] = [];

  afterEach(async () => {
    await Promise.all(modules.splice(0).map((module) => module.close()));
  });

  return {
    start: async (options = {}) => {
      const module = await Test.createTestingModule({
        imports: [AtomicRedisModule.forRoot({ shutdownTimeoutMs: 500, ...defaults(), ...options })],
      }).compile();
      module.useLogger(false);
      modules.push(module);
      await module.init();
      const events: RunEvent[] = [];
      module.get(AtomicRedisEvents).subscribe((event) => isRunEvent(event) && events.push(event));
      return { module, events, idempotency: module.get(IdempotencyService) };
    },
  };
}

/** A promise and the functions that settle it. */
export function gate<T = void>(): {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
} {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((resolvePromise, rejectPromise) => {
    resolve = resolvePromise;
    reject = rejectPromise;
  });
  return { promise, resolve, reject };
}

/** Strikes the calls of a script, by its SHA. */
export const on = ({ sha }: { sha: string }): FaultOptions => ({
  match: ({ name, args }) => name === 'EVALSHA' && args[0]?.toString() === sha,
});

/** Of bytes, which it neither copies nor changes. */
export const rawBytes: ResultCodec = {
  encode: (value) => value as Buffer,
  decode: (bytes) => bytes,
};
