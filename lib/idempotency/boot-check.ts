import { RequestMethod, type Type } from '@nestjs/common';
import { MetadataScanner, type ModulesContainer } from '@nestjs/core';
import { ConfigurationError } from '../atomic-redis.errors.js';
import { refuseEvents } from './http/http-exchange.js';
import type { OperationRegistry } from './operation-registry.js';

const MARK = Symbol('nestjs-atomic-redis:idempotent');

/** What `@Idempotent` notes on the method it decorates, for the check at boot. */
export interface IdempotentMark {
  readonly registration: string;
  readonly operation: string | undefined;
  /** Whether the key comes from the arguments. */
  readonly hasKey: boolean;
}

export const markIdempotent = (method: object, mark: IdempotentMark): void =>
  Reflect.defineMetadata(MARK, mark, method);

const PATH = 'path';
const METHOD = 'method';

/**
 * Looks at every decorated method of the application before it starts.
 *
 * @throws ConfigurationError for a route that sends events, for a method without a key that is no route, and for two methods with one operation
 */
export function checkIdempotentMethods(
  modules: ModulesContainer,
  registration: string,
  operations: OperationRegistry,
): void {
  const scanner = new MetadataScanner();
  for (const { type, isController } of classesOf(modules)) {
    const prototype = type.prototype as Record<string, unknown>;
    for (const methodName of scanner.getAllMethodNames(prototype)) {
      const method = prototype[methodName] as object;
      const mark = Reflect.getMetadata(MARK, method) as IdempotentMark | undefined;
      if (mark?.registration !== registration) continue;
      const name = `${type.name}.${methodName}`;
      refuseEvents(method, name);
      const route = isController ? routeOf(type, method) : undefined;
      if (route === undefined && !mark.hasKey) {
        throw new ConfigurationError(
          `${name} is not an HTTP route, so its idempotency key must come from its arguments: @Idempotent({ key: (…) => … })`,
        );
      }
      operations.claim(mark.operation ?? (route === undefined ? name : `${name} ${route}`), { type, name });
    }
  }
}

function classesOf(modules: ModulesContainer): Set<{ type: Type; isController: boolean }> {
  const classes = new Map<Type, { type: Type; isController: boolean }>();
  for (const { controllers, providers } of modules.values()) {
    for (const [wrappers, isController] of [
      [controllers, true],
      [providers, false],
    ] as const) {
      for (const { metatype, isNotMetatype, instance } of wrappers.values()) {
        const type: unknown = isNotMetatype ? (instance as object | undefined)?.constructor : metatype;
        if (typeof type === 'function' && type.prototype)
          classes.set(type as Type, { type: type as Type, isController });
      }
    }
  }
  return new Set(classes.values());
}

/** HTTP method and paths as they stand in the decorators; undefined for what is no route. */
function routeOf(type: Type, method: object): string | undefined {
  const path: unknown = Reflect.getMetadata(PATH, method);
  const verb = Reflect.getMetadata(METHOD, method) as RequestMethod | undefined;
  if (path === undefined || verb === undefined) return undefined;
  return JSON.stringify([RequestMethod[verb], Reflect.getMetadata(PATH, type), path]);
}
