import { MetadataScanner, type ModulesContainer } from '@nestjs/core';
import 'reflect-metadata';
import { DEFAULT_REGISTRATION } from '../atomic-redis.constants.js';

const MARK = Symbol('nestjs-atomic-redis:optimistic-retry');

/** Notes the registration on a method that `@OptimisticRetry` decorates. */
export const markOptimistic = (method: object, registration: string = DEFAULT_REGISTRATION): void =>
  Reflect.defineMetadata(MARK, registration, method);

/** True if a method of the application runs as a transaction of that registration. */
export function hasOptimisticMethods(modules: ModulesContainer, registration: string): boolean {
  const scanner = new MetadataScanner();
  for (const { controllers, providers } of modules.values()) {
    for (const { metatype, isNotMetatype, instance } of [...providers.values(), ...controllers.values()]) {
      const type: unknown = isNotMetatype ? (instance as object | undefined)?.constructor : metatype;
      if (typeof type !== 'function' || !type.prototype) continue;
      const prototype = type.prototype as Record<string, unknown>;
      const isMarked = (name: string): boolean =>
        Reflect.getMetadata(MARK, prototype[name] as object) === registration;
      if (scanner.getAllMethodNames(prototype).some(isMarked)) return true;
    }
  }
  return false;
}
