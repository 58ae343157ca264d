import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { copyBytes } from '../scripting/copies.js';
import type { ShadowType } from './shadow-type.js';
import type { ShadowValue, ShadowWriter } from './shadow-writer.js';

/**
 * An item of an iterable: a pair for a hash or a sorted set, an object for a stream, and a value
 * for all others. @inline
 */
type ShadowItem =
  ShadowValue | readonly [name: ShadowValue, value: ShadowValue] | Readonly<Record<string, ShadowValue>>;

/**
 * The source of a new value: a function that writes it, an iterable or async iterable (a database
 * cursor, a stream, a Map, an array), or a plain object with the fields of a hash.
 */
export type ShadowSource =
  | ((writer: ShadowWriter) => unknown)
  | AsyncIterable<ShadowItem>
  | (Iterable<ShadowItem> & object)
  | Readonly<Record<string, string | Buffer | number | bigint>>;

/** @throws InvalidArgumentError */
export function checkSource(path: string, source: unknown, type: ShadowType | undefined): void {
  if (typeof source === 'function') {
    if (type !== undefined)
      throw new InvalidArgumentError(
        'options.type',
        `absent if ${path} is a function, which decides by its writes`,
        type,
      );
    return;
  }
  if (
    typeof source !== 'object' ||
    source === null ||
    ArrayBuffer.isView(source) ||
    !(isIterable(source) || isPlain(source))
  )
    throw new InvalidArgumentError(
      path,
      'a function, an iterable, an async iterable or a plain object',
      source,
    );
  if (!isIterable(source) && type !== undefined && type !== 'hash' && type !== 'zset')
    throw new InvalidArgumentError('options.type', `"hash" or "zset" if ${path} is a plain object`, type);
}

/**
 * Copies an array, a Set, a Map or an object, which the caller could change before it is read. A
 * source that makes its items on demand is returned as it is; its items are copied when they are
 * written.
 */
export function snapshot(source: ShadowSource): ShadowSource {
  if (typeof source === 'function') return source;
  if (isCollection(source)) return Array.from(source as Iterable<ShadowItem>, copyItem) as ShadowSource;
  if (isIterable(source)) return source;
  const copy: Record<string, ShadowValue> = Object.create(null) as Record<string, ShadowValue>;
  for (const [name, value] of ownEntries(source)) copy[name] = copyItem(value) as ShadowValue;
  return copy;
}

/** Returns true if all items exist already. */
export const isCollection = (value: unknown): value is Iterable<unknown> =>
  Array.isArray(value) || value instanceof Map || value instanceof Set;

/** Copies an item of a source, with the bytes in it. */
export function copyItem(item: unknown): unknown {
  if (Buffer.isBuffer(item)) return copyBytes(item);
  if (Array.isArray(item))
    return item.map((part: unknown) => (Buffer.isBuffer(part) ? copyBytes(part) : part));
  if (typeof item !== 'object' || item === null) return item;
  if (isCollection(item)) return Array.from(item, copyItem);
  if (!isPlain(item)) return item;
  const copy: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(item))
    copy[name] = Buffer.isBuffer(value) ? copyBytes(value) : value;
  return copy;
}

/** A writer that also takes one item of an iterable after the other. */
interface ItemWriter extends ShadowWriter {
  /** Returns a promise to await before the next item, or undefined. */
  put(type: ShadowType, item: unknown): Promise<void> | undefined;
}

/** Writes all items of the source. */
export async function fill(source: ShadowSource, type: ShadowType, writer: ItemWriter): Promise<void> {
  if (typeof source === 'function') {
    await source(writer);
    return;
  }
  for await (const item of (isIterable(source) ? source : ownEntries(source)) as AsyncIterable<ShadowItem>) {
    const room = writer.put(type, item);
    if (room) await room;
  }
}

const isIterable = (value: object): value is AsyncIterable<unknown> | Iterable<unknown> =>
  Symbol.asyncIterator in value || Symbol.iterator in value;

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/** Writes items one by one: all at once, they would be in memory twice. */
function* ownEntries(object: object): Iterable<readonly [string, unknown]> {
  for (const name in object)
    if (Object.hasOwn(object, name)) yield [name, (object as Record<string, unknown>)[name]];
}
