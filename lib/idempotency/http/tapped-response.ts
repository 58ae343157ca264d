import type { ServerResponse } from 'node:http';

/** Of a response, what a tap stands in for. */
const METHODS = [
  'writeHead',
  'write',
  'end',
  'flushHeaders',
  'setHeader',
  'setHeaders',
  'appendHeader',
  'removeHeader',
] as const;

export type Method = (typeof METHODS)[number];
export type Methods = Readonly<Record<Method, (...args: unknown[]) => unknown>>;

/** Who is asked in the place of a response. */
export interface Tap {
  call(name: Method, args: unknown[]): unknown;
}

type Tapped = Record<symbol, Tap | undefined>;

/** The first tap of a response, the one that was put in front of that, and so on. */
interface Level {
  /** Under which a response holds this tap. */
  readonly key: symbol;
  readonly methods: Methods;
}

const levels: Level[] = [];

/**
 * Puts a tap in front of one response, and gives what it stands in for.
 *
 * All tapped responses share the methods, which find the tap of the response they are called on: then they share the shape too. Closures or accessors of its own for
 * each response, or another prototype, would cost more than the rest of the tap, and make everything slow that Node.js does with it.
 */
export function putInFront(tap: Tap, response: ServerResponse): Methods {
  const before = Object.getPrototypeOf(response) as Methods;
  let original = before;
  for (const name of METHODS) {
    if (!Object.hasOwn(response, name)) continue;
    // What middleware has put onto the response itself comes before its prototype.
    if (original === before) original = Object.create(before) as Methods;
    Object.assign(original, { [name]: response[name] });
  }
  const { key, methods } = freeLevel(response as unknown as Tapped);
  (response as unknown as Tapped)[key] = tap;
  Object.assign(response, methods);
  return original;
}

/** From here on the response says that it has ended, to those who might answer in its place. {@link letEnd} and its end must follow. */
export function sayEnded(response: ServerResponse): void {
  Object.defineProperty(response, 'headersSent', { value: true, configurable: true });
  // In HTTP/1 a field, which its end asks for; in HTTP/2 an accessor of what the stream says.
  if (Object.hasOwn(response, 'finished')) response.finished = true;
  else Object.defineProperty(response, 'writableEnded', { value: true, configurable: true });
}

/** From here on it says again what is so: its end asks, and so does middleware that the end goes through, which writes no head where it was sent. */
export function letEnd(response: ServerResponse): void {
  Reflect.deleteProperty(response, 'headersSent');
  if (Object.hasOwn(response, 'finished')) response.finished = false;
  else Reflect.deleteProperty(response, 'writableEnded');
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
