import type { Abstract, Type } from '@nestjs/common';
import { MetadataScanner } from '@nestjs/core';
import { ConfigurationError } from '../atomic-redis.errors.js';

/** Nest calls these on every provider that has them. */
const LIFECYCLE_HOOKS = new Set([
  'onModuleInit',
  'onApplicationBootstrap',
  'onModuleDestroy',
  'beforeApplicationShutdown',
  'onApplicationShutdown',
]);

/**
 * Makes an instance of a service that has no Redis. Each method is the stub's own property, so that
 * the mocks of any test runner take its place; until then it rejects.
 *
 * @param answers of the methods that do have an answer
 * @param where a test finds the stub, for messages
 */
export function stubOf<T extends object>(
  type: Type<T> | Abstract<T>,
  answers: Partial<Record<keyof T & string, unknown>> = {},
  where = `module.get(${type.name})`,
): T {
  const prototype = type.prototype as object;
  const stub = Object.create(prototype) as T;
  for (const method of new MetadataScanner().getAllMethodNames(prototype)) {
    if (LIFECYCLE_HOOKS.has(method)) continue;
    own(stub, method, () => Promise.reject(unanswered(`${type.name}.${method}()`, `${where}, '${method}'`)));
  }
  for (const [name, answer] of Object.entries(answers)) own(stub, name, answer);
  return stub;
}

const own = (stub: object, name: string, value: unknown): unknown =>
  Object.defineProperty(stub, name, { value, writable: true, configurable: true, enumerable: true });

const unanswered = (call: string, spied: string): ConfigurationError =>
  new ConfigurationError(
    `${call} has no answer in this test. Give it one: jest.spyOn(${spied}).mockResolvedValue(…), or the same by vi.spyOn`,
  );
