import { InvalidArgumentError } from '../atomic-redis.errors.js';
import type { ChunkingWriter } from './chunking-writer.js';
import type { ShadowType } from './shadow-type.js';
import type { ShadowEntry, ShadowValue, ShadowWriter } from './shadow-writer.js';

/** What an iterable yields: pairs for a hash or a sorted set, objects for a stream, and values for all others. */
export type ShadowItem = ShadowValue | ShadowEntry | Readonly<Record<string, ShadowValue>>;

/**
 * Where a new value comes from: a function that writes it, anything that can be iterated, asynchronously or not (a database cursor, a stream, a
 * Map, an array), or a plain object with the fields of a hash.
 */
export type ShadowSource =
  | ((writer: ShadowWriter) => unknown)
  | AsyncIterable<ShadowItem>
  | (Iterable<ShadowItem> & object)
  | Readonly<Record<string, ShadowValue>>;

/** @throws InvalidArgumentError */
export function checkSource(path: string, source: unknown, type: ShadowType | undefined): void {
  if (typeof source === 'function') {
    if (type !== undefined)
      throw new InvalidArgumentError(
        'options.type',
        `absent where ${path} is a function, which decides by what it writes`,
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
    throw new InvalidArgumentError('options.type', `"hash" or "zset" where ${path} is a plain object`, type);
}

/** Writes all that the source has. */
export async function fill(source: ShadowSource, type: ShadowType, writer: ChunkingWriter): Promise<void> {
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

/** One by one: all at once they would be in memory twice. */
function* ownEntries(object: object): Iterable<readonly [string, unknown]> {
  for (const name in object)
    if (Object.hasOwn(object, name)) yield [name, (object as Record<string, unknown>)[name]];
}
