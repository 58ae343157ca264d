import type { ServerResponse } from 'node:http';

/** The methods of a response that a tap stands in for. */
const METHODS = ['writeHead', 'write', 'end', 'flushHeaders', 'destroy', 'emit'] as const;

/**
 * The methods that HTTP/1 refuses by itself once a response is marked; others have to be refused
 * here.
 */
const HEADER_METHODS = ['setHeader', 'setHeaders', 'appendHeader', 'removeHeader'] as const;

const ALL_METHODS = [...METHODS, ...HEADER_METHODS] as const;

export type Method = (typeof ALL_METHODS)[number];
export type Methods = Readonly<Record<Method, (...args: unknown[]) => unknown>>;

/** Receives the calls made on a response. */
export interface Tap {
  call(name: Method, args: unknown[]): unknown;
}

type Tapped = Record<symbol, Tap | undefined>;

/** The first tap of a response, the one put in front of it, and so on. */
interface TapSlot {
  /** The property under which a response holds this tap. */
  readonly key: symbol;
  readonly methods: Methods;
}

const levels: TapSlot[] = [];

/**
 * Puts a tap in front of one response. Returns the methods that the tap stands in for.
 *
 * All tapped responses share the methods, which find the tap of the response they are called on, so
 * they share a shape too. Closures or accessors of its own for each response, or another prototype,
 * would cost more than the rest of the tap and slow down all that Node.js does with the response.
 */
export function install(tap: Tap, response: ServerResponse): Methods {
  const before = Object.getPrototypeOf(response) as Methods;
  const hasHead = keepsHead(response);
  let original = before;
  for (const name of hasHead ? METHODS : ALL_METHODS) {
    if (!Object.hasOwn(response, name)) continue;
    // Methods that middleware put onto the response itself come before those of its prototype.
    if (original === before) original = Object.create(before) as Methods;
    Object.assign(original, { [name]: response[name] });
  }
  const { key, methods } = freeLevel(response as unknown as Tapped);
  (response as unknown as Tapped)[key] = tap;
  assign(response as unknown as Writable<Methods>, methods);
  if (!hasHead)
    for (const name of HEADER_METHODS) if (name in response) response[name] = methods[name] as never;
  return original;
}

/**
 * By their names: V8 may turn an object that is given as many properties by `Object.assign` into a
 * slow one.
 */
function assign(response: Writable<Methods>, methods: Methods): void {
  response.writeHead = methods.writeHead;
  response.write = methods.write;
  response.end = methods.end;
  response.flushHeaders = methods.flushHeaders;
  response.destroy = methods.destroy;
  response.emit = methods.emit;
}

type Writable<T> = { -readonly [Name in keyof T]: T[Name] };

/** The field in which Node.js keeps the head of a response of HTTP/1 once it is made. */
const HEAD = '_header';

interface Http1Response {
  [HEAD]: string | null;
}

const keepsHead = (response: object): response is Http1Response => Object.hasOwn(response, HEAD);

/**
 * Returns true for a test double of a Node.js response, such as that of node-mocks-http, which
 * keeps text and bytes apart.
 */
export const isDouble = (response: object): boolean =>
  !keepsHead(response) && Object.hasOwn(response, 'finished');

/** Stands for a head that is held. */
const HELD_HEAD = 'held';

/**
 * Makes the response say that its head has been sent. {@link unmark} restores what is so.
 *
 * HTTP/1 tells it, and refuses late headers, by a field that is there already. A property that
 * comes and goes would slow down all that Node.js does with the response.
 */
export function markBegun(response: ServerResponse): void {
  if (keepsHead(response)) response[HEAD] = HELD_HEAD;
  else Object.defineProperty(response, 'headersSent', { value: true, configurable: true });
}

/** Makes the response say that it has ended. {@link unmark} restores what is so. */
export function markEnded(response: ServerResponse): void {
  markBegun(response);
  // HTTP/1 has a field, which `end` reads; HTTP/2 an accessor of the stream's state.
  if (Object.hasOwn(response, 'finished')) response.finished = true;
  else Object.defineProperty(response, 'writableEnded', { value: true, configurable: true });
}

/**
 * Makes a response that flows say that it has ended. Its field `finished` stays as it is:
 * middleware below, such as compression, writes on, and Node.js reads it. {@link unmarkFlow}
 * restores what is so.
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
  if (!keepsHead(response)) Reflect.deleteProperty(response, 'headersSent');
  else if (response[HEAD] === HELD_HEAD) response[HEAD] = null;
  if (Object.hasOwn(response, 'finished')) response.finished = false;
  else Reflect.deleteProperty(response, 'writableEnded');
}

/** The fields of Node.js by which a response of HTTP/1 tells that its connection has closed. */
const CLOSED_FIELDS = ['destroyed', '_closed'] as const;

/**
 * Sets whether an HTTP/1 response says that its connection has closed. `pipeline` and `pipe` give
 * up on one that has.
 */
export function markClosed(response: ServerResponse, isClosed: boolean): void {
  for (const field of CLOSED_FIELDS)
    if (Object.hasOwn(response, field)) Object.assign(response, { [field]: isClosed });
}

/**
 * Makes a response whose connection has closed say that it takes more: nothing drains it any more.
 */
export const markDrained = (response: ServerResponse): void =>
  void Object.defineProperty(response, 'writableNeedDrain', { value: false, configurable: true });

function freeLevel(response: Tapped): TapSlot {
  let depth = 0;
  while (levels[depth] && response[levels[depth]!.key]) depth++;
  return (levels[depth] ??= newLevel());
}

function newLevel(): TapSlot {
  const key = Symbol('tap');
  const methodOf = (name: Method) =>
    function (this: Tapped, ...args: unknown[]): unknown {
      return this[key]!.call(name, args);
    };
  const methods = Object.fromEntries(ALL_METHODS.map((name) => [name, methodOf(name)])) as unknown as Methods;
  return { key, methods };
}
