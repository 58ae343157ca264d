import type { ServerResponse } from 'node:http';

/** The methods of a response that a tap stands in for. */
const METHODS = [
  'writeHead',
  'write',
  'end',
  'flushHeaders',
  'setHeader',
  'setHeaders',
  'appendHeader',
  'removeHeader',
  'destroy',
  'emit',
] as const;

export type Method = (typeof METHODS)[number];
export type Methods = Readonly<Record<Method, (...args: unknown[]) => unknown>>;

/** Receives the calls made on a response. */
export interface Tap {
  call(name: Method, args: unknown[]): unknown;
}

type Tapped = Record<symbol, Tap | undefined>;

/** The first tap of a response, the one put in front of it, and so on. */
interface Level {
  /** The property under which a response holds this tap. */
  readonly key: symbol;
  readonly methods: Methods;
}

const levels: Level[] = [];

/**
 * Puts a tap in front of one response. Returns the methods that the tap stands in for.
 *
 * All tapped responses share the methods, which find the tap of the response they are called on, so
 * they share a shape too. Closures or accessors of its own for each response, or another prototype,
 * would cost more than the rest of the tap and slow down all that Node.js does with the response.
 */
export function putInFront(tap: Tap, response: ServerResponse): Methods {
  const before = Object.getPrototypeOf(response) as Methods;
  let original = before;
  for (const name of METHODS) {
    if (!Object.hasOwn(response, name)) continue;
    // Methods that middleware put onto the response itself come before those of its prototype.
    if (original === before) original = Object.create(before) as Methods;
    Object.assign(original, { [name]: response[name] });
  }
  const { key, methods } = freeLevel(response as unknown as Tapped);
  (response as unknown as Tapped)[key] = tap;
  Object.assign(response, methods);
  return original;
}

/** Makes the response say that its head has been sent. {@link unmark} restores what is so. */
export function markBegun(response: ServerResponse): void {
  Object.defineProperty(response, 'headersSent', { value: true, configurable: true });
}

/** Makes the response say that it has ended. {@link unmark} restores what is so. */
export function markEnded(response: ServerResponse): void {
  markBegun(response);
  // HTTP/1 has a field, which `end` reads; HTTP/2 an accessor of the stream's state.
  if (Object.hasOwn(response, 'finished')) response.finished = true;
  else Object.defineProperty(response, 'writableEnded', { value: true, configurable: true });
}

/**
 * Makes a response that flows say that it has ended. Its field `finished` stays as it is: middleware below, such as
 * compression, writes on, and Node.js reads it. {@link unmarkFlow} restores what is so.
 */
export const markFlowEnded = (response: ServerResponse): void =>
  void Object.defineProperty(response, 'writableEnded', { value: true, configurable: true });

export const unmarkFlow = (response: ServerResponse): void =>
  void Reflect.deleteProperty(response, 'writableEnded');

/**
 * Restores the real `headersSent` and `writableEnded`; `end()` and middleware such as compression
 * read them.
 */
export function unmark(response: ServerResponse): void {
  Reflect.deleteProperty(response, 'headersSent');
  if (Object.hasOwn(response, 'finished')) response.finished = false;
  else Reflect.deleteProperty(response, 'writableEnded');
}

/** The fields of Node.js by which a response of HTTP/1 tells that its connection has closed. */
const CLOSED_FIELDS = ['destroyed', '_closed'] as const;

/** Sets whether an HTTP/1 response says that its connection has closed. `pipeline` and `pipe` give up on one that has. */
export function markClosed(response: ServerResponse, isClosed: boolean): void {
  for (const field of CLOSED_FIELDS)
    if (Object.hasOwn(response, field)) Object.assign(response, { [field]: isClosed });
}

function freeLevel(response: Tapped): Level {
  let depth = 0;
  while (levels[depth] && response[levels[depth]!.key]) depth++;
  return (levels[depth] ??= newLevel());
}

function newLevel(): Level {
  const key = Symbol('tap');
  const methodOf = (name: Method) =>
    function (this: Tapped, ...args: unknown[]): unknown {
      return this[key]!.call(name, args);
    };
  const methods = Object.fromEntries(METHODS.map((name) => [name, methodOf(name)])) as unknown as Methods;
  return { key, methods };
}
