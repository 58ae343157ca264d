import {
  MetadataScanner,
  type ApplicationConfig,
  type ExternalContextCreator,
  type ModulesContainer,
} from '@nestjs/core';
import { ConfigurationError } from '../atomic-redis.errors.js';
import { moveInnermost, refuseEvents, spareInterceptor } from './http/http-exchange.js';
import { modulePathOf, routeOperation } from '../http/route-operation.js';
import {
  idempotentMarkOf,
  labelOf,
  operationMissing,
  operationToAdd,
  ownNameOf,
  type IdempotentMark,
} from './idempotent-mark.js';
import { methodsOfControllers, giveRoutesAnEdge } from '../problem-details/route-edge.js';
import type { OperationRegistry } from './operation-registry.js';

/**
 * Looks at every decorated method of the application before it starts, and names its operation.
 *
 * @throws ConfigurationError for a route that sends events, for a method that is no route and lacks
 * a key or an operation, for two methods with one operation, and for two instances of a class that
 * has one
 */
export function checkIdempotentMethods(
  modules: ModulesContainer,
  registration: string,
  operations: OperationRegistry,
): void {
  const scanner = new MetadataScanner();
  for (const found of classesOf(modules)) {
    for (const methodName of scanner.getAllMethodNames(found.prototype)) {
      const method = (found.prototype as Record<string, object>)[methodName]!;
      const mark = idempotentMarkOf(method);
      if (mark?.registration === registration) checkMethod(found, method, mark, operations);
    }
  }
}

/**
 * Gives all routes their edge, and puts what goes with each `@Idempotent` method in its place. Must
 * run before Nest makes handlers of methods: while the providers of the module are made.
 */
export function arrangeRoutes(modules: ModulesContainer): void {
  giveRoutesAnEdge(modules, (method) => idempotentMarkOf(method)?.interceptor.aroundRoute);
  for (const { method, mark } of idempotentOfControllers(modules)) moveInnermost(method, mark.interceptor);
}

/**
 * Spares `@Idempotent` routes an interceptor where no other one stands around them. Must run before
 * Nest makes the routes, once the application knows the interceptors of `useGlobalInterceptors`:
 * when Nest asks the modules for their middleware.
 */
export function spareInterceptors(modules: ModulesContainer, creator: ExternalContextCreator): void {
  const hasGlobal = hasGlobalInterceptors(creator);
  for (const { method, type } of idempotentOfControllers(modules)) spareInterceptor(method, type, hasGlobal);
}

/** Nest hands out no configuration of the application. Where it cannot be reached, there may be some. */
function hasGlobalInterceptors(creator: ExternalContextCreator): boolean {
  const within = creator as unknown as {
    readonly interceptorsContextCreator?: { readonly config?: ApplicationConfig };
  };
  const config = within.interceptorsContextCreator?.config;
  return !config || config.getGlobalInterceptors().length + config.getGlobalRequestInterceptors().length > 0;
}

const idempotentOfControllers = (modules: ModulesContainer) =>
  methodsOfControllers(modules).flatMap(({ type, method }) => {
    const mark = idempotentMarkOf(method);
    return mark ? [{ type, method, mark }] : [];
  });

interface FoundClass {
  readonly type: object;
  readonly prototype: object;
  /**
   * The paths that `RouterModule` puts in front of its routes, for each module that has it as a
   * controller.
   */
  readonly modulePaths: Set<string>;
  /** One for each instance there is, or is to be in each request. */
  readonly providers: Set<object>;
  /** The instances that exist. */
  readonly instances: Set<object>;
}

function checkMethod(
  { type, prototype, modulePaths, providers, instances }: FoundClass,
  method: object,
  mark: IdempotentMark,
  operations: OperationRegistry,
): void {
  const label = labelOf(type, mark.site);
  const owner = { prototype, site: mark.site };
  refuseEvents(method, label);
  const routes = [...modulePaths].flatMap((path) => routeOperation(type, method, path) ?? []);
  const [route] = routes;
  if (route !== undefined) mark.routes.add(prototype);
  if (route === undefined && !mark.hasKey) {
    throw new ConfigurationError(
      `${label} is not an HTTP route, so its idempotency key must come from its arguments: @Idempotent({ ${typeof mark.operation === 'string' ? '' : `${operationToAdd(type, mark.site)}, `}key: (…) => … })`,
    );
  }
  if (typeof mark.operation === 'function') {
    for (const instance of instances)
      operations.claim(ownNameOf(mark.operation, instance), { ...owner, instance });
    operations.name(owner, mark.operation);
    return;
  }
  const operation = mark.operation ?? route;
  if (operation === undefined) throw operationMissing(type, mark.site);
  if (mark.operation === undefined && new Set(routes).size > 1) {
    throw new ConfigurationError(
      `${label} is the route of several modules (${routes.join(', ')}), and its calls cannot be told apart. Give each module a controller of its own`,
    );
  }
  if (providers.size > 1) {
    throw new ConfigurationError(
      `${label} is the idempotent operation ${JSON.stringify(operation)}, but there are ${providers.size} instances of its class, which would answer ` +
        `each other's calls. Provide the class once and export it, or name each instance: @Idempotent({ operation: (self) => … })`,
    );
  }
  operations.claim(operation, owner);
  operations.name(owner, operation);
  if (route !== undefined) operations.addRoute(route, operation);
}

const CONTROLLER_WATERMARK = '__controller__';

function classesOf(modules: ModulesContainer): Iterable<FoundClass> {
  const classes = new Map<object, FoundClass>();
  const find = (type: unknown): FoundClass | undefined => {
    const prototype: unknown = typeof type === 'function' ? type.prototype : undefined;
    if (typeof prototype !== 'object' || prototype === null) return undefined;
    let found = classes.get(prototype);
    if (!found) {
      found = {
        type: type as object,
        prototype,
        modulePaths: new Set(),
        providers: new Set(),
        instances: new Set(),
      };
      classes.set(prototype, found);
    }
    return found;
  };
  for (const { controllers, providers, metatype: module } of modules.values()) {
    const modulePath = modulePathOf(modules, module);
    for (const { metatype } of controllers.values()) {
      if (metatype && Reflect.hasMetadata(CONTROLLER_WATERMARK, metatype))
        find(metatype)?.modulePaths.add(modulePath);
    }
    for (const wrapper of providers.values()) {
      if (wrapper.isAlias) continue;
      const instance: unknown = wrapper.instance;
      const found = find(
        wrapper.isNotMetatype ? (instance as object | undefined)?.constructor : wrapper.metatype,
      );
      if (!found) continue;
      const isThere = wrapper.isDependencyTreeStatic() && !wrapper.isTransient;
      found.providers.add(isThere ? (instance as object) : wrapper);
      if (isThere) found.instances.add(instance as object);
    }
  }
  return classes.values();
}
