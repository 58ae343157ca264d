import { MetadataScanner, type ModulesContainer } from '@nestjs/core';
import { catchError, isObservable, throwError, type Observable } from 'rxjs';
import { atEdge, beginAgain, type RouteResponse } from './http-exception.js';

/** A metadata key of Nest. */
const PATH = 'path';
const ROUTE_ARGUMENTS = '__routeArguments__';
const RESPONSE_PASSTHROUGH = '__responsePassthrough__';
const PARAMETER_TYPES = 'design:paramtypes';
const RESPONSE_ARGUMENT = 1;
const NEXT_ARGUMENT = 2;

/** Asks Nest for the response as one more argument. The text behind the colon is free. */
const EDGE_ARGUMENT = `${RESPONSE_ARGUMENT}:nestjs-atomic-redis`;

/** Returns true for a route argument that the handler itself asks for. */
const isOwnArgument = (key: string): boolean => key !== EDGE_ARGUMENT;

interface RouteArgument {
  readonly index: number;
}
type RouteArguments = Readonly<Record<string, RouteArgument>>;

type Handler = (...args: unknown[]) => unknown;

/** Stands around each call of a handler by Nest's router. */
export type AroundRoute = (
  response: RouteResponse,
  /** True if Nest sends nothing, because the handler takes `@Res()` or `@Next()`. */
  sendsByItself: boolean,
  proceed: () => unknown,
) => unknown;

/** Maps each edge to the handler inside it. */
const handlers = new WeakMap<Handler, Handler>();

/**
 * Gives every route of the application an edge. An error of this library that leaves the handler
 * becomes an HttpException there, whatever threw it. Guards, interceptors and middleware stand
 * outside.
 *
 * Runs before Nest makes its routes, so that Nest finds the edge in the handler's place. A class
 * that several applications of this process share gets one edge.
 * @param aroundOf returns what stands around a handler, inside its edge
 */
export function giveRoutesAnEdge(
  modules: ModulesContainer,
  aroundOf: (handler: object) => AroundRoute | undefined,
): void {
  for (const { type, prototype, name, method } of methodsOfControllers(modules))
    if (Reflect.getMetadata(PATH, method) !== undefined) wrap(type, prototype, name, aroundOf);
}

interface ControllerMethod {
  readonly type: Handler;
  readonly prototype: Record<string, Handler>;
  readonly name: string;
  readonly method: Handler;
}

/** Lists the methods of each controller, also those that it inherits. */
export function methodsOfControllers(modules: ModulesContainer): ControllerMethod[] {
  const scanner = new MetadataScanner();
  const types = [...modules.values()].flatMap(({ controllers }) =>
    [...controllers.values()].map(({ metatype }) => metatype as Handler | null),
  );
  return types.flatMap((type) => {
    const prototype = type?.prototype as Record<string, Handler> | undefined;
    if (!type || !prototype) return [];
    const names = scanner.getAllMethodNames(prototype);
    return names.map((name) => ({ type, prototype, name, method: prototype[name]! }));
  });
}

/**
 * Gives an inherited method its edge in the class that inherits it, so that `super.create()`
 * bypasses it.
 */
function wrap(
  type: Handler,
  prototype: Record<string, Handler>,
  name: string,
  aroundOf: (handler: object) => AroundRoute | undefined,
): void {
  const found = prototype[name]!;
  if (Object.hasOwn(prototype, name) && handlers.has(found)) return;
  const handler = handlers.get(found) ?? found;
  const { index, length, sendsByItself } = askForResponse(type, prototype, name, handler);
  const around = aroundOf(handler);
  const edge = new Proxy(handler, {
    apply(inner, self: unknown, args: unknown[]) {
      const response = args.length > index ? args[index] : undefined;
      if (args.length === index + 1 && (response === undefined || response === null)) args.pop();
      // Not called by Nest's router: by a service, super.create(), or a message pattern on the same
      // method.
      if (!isResponse(response)) return Reflect.apply(inner, self, args);
      args.length = length;
      beginAgain(response);
      let result: unknown;
      try {
        result = around
          ? around(response, sendsByItself, () => Reflect.apply(inner, self, args))
          : Reflect.apply(inner, self, args);
      } catch (error) {
        throw atEdge(error, response);
      }
      if (isObservable(result)) return failing(result, response);
      return isThenable(result) ? settled(result, response) : result;
    },
  });
  for (const key of Reflect.getOwnMetadataKeys(handler))
    Reflect.defineMetadata(key, Reflect.getOwnMetadata(key, handler), edge);
  handlers.set(edge, handler);
  const { enumerable = false } = Object.getOwnPropertyDescriptor(prototype, name) ?? {};
  Object.defineProperty(prototype, name, { value: edge, enumerable, configurable: true, writable: true });
}

/**
 * Makes Nest pass the response behind the handler's last argument, and still send the response
 * itself.
 * @returns its index, the number of arguments without it, and whether Nest sends nothing
 */
function askForResponse(
  type: Handler,
  prototype: Record<string, Handler>,
  name: string,
  handler: Handler,
): { index: number; length: number; sendsByItself: boolean } {
  // Nest takes a handler's parameters from the class that has the method. A mixin may have copied
  // it from there.
  const owner = (prototype as { constructor?: unknown }).constructor as Handler & {
    prototype: Record<string, Handler>;
  };
  const host = typeof owner === 'function' && owner.prototype?.[name] === prototype[name] ? owner : type;
  const target = owner?.prototype === prototype ? owner : type;
  const given = (Reflect.getMetadata(ROUTE_ARGUMENTS, host, name) ?? {}) as RouteArguments;
  const own = Object.entries(given).filter(([key]) => isOwnArgument(key));
  const length = Math.max(0, ...own.map(([, argument]) => argument.index + 1));
  const index = Math.max(handler.length, length);
  const edge = { index, data: undefined, pipes: [] };
  Reflect.defineMetadata(
    ROUTE_ARGUMENTS,
    { ...Object.fromEntries(own), [EDGE_ARGUMENT]: edge },
    target,
    name,
  );
  const takesResponse = own.some(([key]) =>
    [RESPONSE_ARGUMENT, NEXT_ARGUMENT].includes(Number(key.split(':')[0])),
  );
  const passthrough: unknown = takesResponse ? Reflect.getMetadata(RESPONSE_PASSTHROUGH, host, name) : true;
  Reflect.defineMetadata(RESPONSE_PASSTHROUGH, passthrough, target, name);
  if (host !== target) {
    const types: unknown = Reflect.getMetadata(PARAMETER_TYPES, host.prototype as object, name);
    if (types) Reflect.defineMetadata(PARAMETER_TYPES, types, prototype, name);
  }
  return { index, length, sendsByItself: !passthrough };
}

const isResponse = (value: unknown): value is RouteResponse => {
  if (typeof value !== 'object' || value === null) return false;
  const response = value as Partial<Record<keyof RouteResponse, unknown>>;
  return typeof response.header === 'function' || typeof response.setHeader === 'function';
};

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof (value as Partial<PromiseLike<unknown>> | null | undefined)?.then === 'function';

async function settled(result: PromiseLike<unknown>, response: RouteResponse): Promise<unknown> {
  try {
    const value = await result;
    return isObservable(value) ? failing(value, response) : value;
  } catch (error) {
    throw atEdge(error, response);
  }
}

const failing = (values: Observable<unknown>, response: RouteResponse): Observable<unknown> =>
  values.pipe(catchError((error: unknown) => throwError(() => atEdge(error, response))));
