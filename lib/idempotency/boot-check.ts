import { RequestMethod, type Type } from '@nestjs/common';
import { MetadataScanner, type ModulesContainer } from '@nestjs/core';
import { ConfigurationError } from '../atomic-redis.errors.js';
import { moveInnermost, refuseEvents } from './http/http-exchange.js';
import { versionOf } from './http/http-request.js';
import type { MethodSite } from '../method-wrapping/wrap-method.js';
import type { IdempotencyDefaults } from './idempotency.options.js';
import type { OperationRegistry } from './operation-registry.js';

const MARK = Symbol('nestjs-atomic-redis:idempotent');

/** What `@Idempotent` notes on the method it decorates, for the check at boot and for descriptions of the route. */
export interface IdempotentMark {
  readonly registration: string;
  readonly operation: string | undefined;
  /** Whether the key comes from the arguments. */
  readonly hasKey: boolean;
  readonly site: MethodSite;
  /** Whether it is an HTTP route; found out at boot. */
  isRoute: boolean;
  /** What a description of the route may say; undefined is the module's default. */
  readonly header: string | undefined;
  readonly required: boolean | undefined;
  readonly onDuplicate: IdempotencyDefaults['onDuplicate'];
  readonly onUnavailable: IdempotencyDefaults['onUnavailable'];
}

export const markIdempotent = (method: object, mark: IdempotentMark): void =>
  Reflect.defineMetadata(MARK, mark, method);

export const idempotentMarkOf = (method: object): IdempotentMark | undefined =>
  Reflect.getMetadata(MARK, method) as IdempotentMark | undefined;

const PATH = 'path';
const METHOD = 'method';
const CONTROLLER_WATERMARK = '__controller__';
const MODULE_PATH = '__module_path__';

/** `OrdersService.create`, by the class of the instance: a method that two classes inherit is two operations. */
export const operationName = (type: { name: string }, { owner, className, methodName }: MethodSite): string =>
  `${type === owner ? className : type.name || className}.${methodName}`;

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
  for (const { type, isController, modulePath } of classesOf(modules)) {
    const prototype = type.prototype as Record<string, unknown>;
    for (const methodName of scanner.getAllMethodNames(prototype)) {
      const method = prototype[methodName] as object;
      const mark = idempotentMarkOf(method);
      if (mark?.registration !== registration) continue;
      const name = operationName(type, mark.site);
      refuseEvents(method, name);
      const route = isController ? routeOf(type, method, modulePath) : undefined;
      if (route !== undefined) mark.isRoute = true;
      if (route === undefined && !mark.hasKey) {
        throw new ConfigurationError(
          `${name} is not an HTTP route, so its idempotency key must come from its arguments: @Idempotent({ key: (…) => … })`,
        );
      }
      operations.claim(mark.operation ?? (route === undefined ? name : `${name} ${route}`), { type, name });
    }
  }
}

/**
 * Makes the interceptor of each `@Idempotent` route its innermost one. Must run before Nest makes the routes: while
 * the providers of the module are made.
 */
export function arrangeIdempotentRoutes(modules: ModulesContainer): void {
  const scanner = new MetadataScanner();
  for (const { type } of classesOf(modules)) {
    const prototype = type.prototype as Record<string, object>;
    for (const methodName of scanner.getAllMethodNames(prototype)) {
      const method = prototype[methodName]!;
      if (idempotentMarkOf(method)) moveInnermost(method);
    }
  }
}

interface FoundClass {
  readonly type: Type;
  readonly isController: boolean;
  /** That `RouterModule` puts in front. */
  readonly modulePath: string;
}

function classesOf(modules: ModulesContainer): Iterable<FoundClass> {
  const classes = new Map<Type, FoundClass>();
  for (const { controllers, providers, metatype: module } of modules.values()) {
    const modulePath = modulePathOf(module);
    for (const { metatype, isNotMetatype, instance } of [...providers.values(), ...controllers.values()]) {
      const type: unknown = isNotMetatype ? (instance as object | undefined)?.constructor : metatype;
      if (typeof type !== 'function' || !type.prototype) continue;
      const isController = Reflect.hasMetadata(CONTROLLER_WATERMARK, type);
      classes.set(type as Type, { type: type as Type, isController, modulePath });
    }
  }
  return classes.values();
}

function modulePathOf(module: object): string {
  const keys = (Reflect.getMetadataKeys(module) as unknown[]).filter(
    (key) => typeof key === 'string' && key.startsWith(MODULE_PATH),
  );
  return keys.map((key) => String(Reflect.getMetadata(key, module))).join();
}

/** HTTP method and paths as they stand in the decorators; undefined for what is no route. */
function routeOf(type: Type, method: object, modulePath: string): string | undefined {
  const path: unknown = Reflect.getMetadata(PATH, method);
  const verb = Reflect.getMetadata(METHOD, method) as RequestMethod | undefined;
  if (path === undefined || verb === undefined) return undefined;
  const paths = JSON.stringify([RequestMethod[verb], modulePath, Reflect.getMetadata(PATH, type), path]);
  return paths + versionOf(type, method);
}
