import type { TestingModule } from '@nestjs/testing';
import {
  AtomicRedisEvents,
  IdempotencyService,
  type AtomicRedisEvent,
  type AtomicRedisOptions,
  type ResultCodec,
} from 'nestjs-atomic-redis';
import type { FaultOptions } from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';

/** Options of calls of `IdempotencyService.run` and of methods with `@Idempotent`. */
export type RunEvent = Extract<AtomicRedisEvent, { record: string }>;

export const isRunEvent = (event: AtomicRedisEvent): event is RunEvent => 'record' in event;

export interface Instance {
  readonly idempotency: IdempotencyService;
  /** All events of runs and duplicates so far. An event arrives a little after its cause. */
  readonly events: RunEvent[];
  readonly module: TestingModule;
}

/** Instances of the module, as processes of their own would have. Call it inside `describe`. */
export function useInstances(defaults: () => AtomicRedisOptions): {
  start(options?: Partial<AtomicRedisOptions>): Promise<Instance>;
} {
  const boot = useApp();

  return {
    start: async (options = {}) => {
      const module = await boot({ shutdownTimeoutMs: 500, ...defaults(), ...options });
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

/** A codec of bytes that neither copies nor changes them. */
export const rawBytes: ResultCodec = {
  encode: (value) => value as Buffer,
  decode: (bytes) => bytes,
};

/**
 * A class as a database driver has for its ids: JSON tells two of them apart, `typeof` does not.
 */
export class ObjectId {
  constructor(private readonly hex: string) {}

  toJSON(): string {
    return this.hex;
  }
}
