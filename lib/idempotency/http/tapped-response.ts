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
  /** Whether the response is to say that it has ended. */
  readonly hasEnded: boolean;
  call(name: Method, args: unknown[]): unknown;
}

/**
 * Puts a tap in front of one response, and gives what it stands in for.
 *
 * The response is given another prototype, which all of its kind share, and whose methods find the tap of the response they are called on. Methods and accessors of
 * its own for each response would cost more than the rest of the tap, and make everything slow that Node.js does with it.
 */
export function putInFront(tap: Tap, response: ServerResponse): Methods {
  const before = Object.getPrototypeOf(response) as ServerResponse;
  const { key, prototype } = kindOf(before);
  (response as unknown as Tapped)[key] = tap;
  Object.setPrototypeOf(response, prototype);
  let original = before as Methods;
  for (const name of METHODS) {
    if (!Object.hasOwn(response, name)) continue;
    // What middleware has put onto the response itself comes before its prototype.
    if (original === before) original = Object.create(before) as Methods;
    Object.assign(original, { [name]: response[name] });
    Object.assign(response, { [name]: prototype[name] });
  }
  return original;
}

type Tapped = Record<symbol, Tap>;

interface Kind {
  /** Under which a response holds its tap: one for each kind, since a tapped response may be tapped again. */
  readonly key: symbol;
  readonly prototype: Methods;
}

const kinds = new WeakMap<object, Kind>();

function kindOf(before: ServerResponse): Kind {
  let kind = kinds.get(before);
  if (!kind) kinds.set(before, (kind = newKind(before)));
  return kind;
}

function newKind(before: ServerResponse): Kind {
  const key = Symbol('tap');
  const prototype = Object.create(before) as Methods;
  for (const name of METHODS) {
    const method = function (this: Tapped, ...args: unknown[]): unknown {
      return this[key]!.call(name, args);
    };
    Object.defineProperty(prototype, name, { value: method, writable: true, configurable: true });
  }
  for (const name of ['headersSent', 'writableEnded'] as const) {
    const get = function (this: Tapped): unknown {
      return this[key]!.hasEnded || Reflect.get(before, name, this);
    };
    Object.defineProperty(prototype, name, { get, configurable: true });
  }
  return { key, prototype };
}
