import type { ResultCodec } from '../result-codec.js';

/**
 * Marks an object that stands for a value JSON has no form for; an object that has this field by
 * itself is marked too.
 */
const TAG = '$';

/**
 * JSON, and beyond it what protobuf writes: int64 as a `Long` or a bigint, bytes, dates, numbers
 * that are not finite, and instances of classes whose fields are all their own. A `Long` comes back
 * as an object of its fields, which protobuf writes alike.
 */
export const protobufCodec: ResultCodec = {
  encode: (value) => JSON.stringify(marked(value, new Set())),
  decode: (bytes) => JSON.parse(bytes.toString(), (_, value: unknown) => unmarked(value)) as unknown,
};

interface Marked {
  readonly [TAG]: 'bigint' | 'bytes' | 'date' | 'number' | 'long' | 'object';
  readonly value: unknown;
}

interface LongLike {
  readonly low: number;
  readonly high: number;
  readonly unsigned: boolean;
}

/** @throws TypeError for what protobuf does not write, and for cycles */
function marked(value: unknown, above: Set<object>): unknown {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number')
    return Number.isFinite(value) && !Object.is(value, -0) ? value : mark('number', numberText(value));
  if (typeof value === 'bigint') return mark('bigint', String(value));
  if (typeof value !== 'object' || above.has(value)) throw notWritten();
  if (value instanceof Uint8Array) return mark('bytes', Buffer.from(value).toString('base64'));
  if (value instanceof Date) return mark('date', value.getTime());
  if (isLong(value)) return mark('long', [value.low, value.high, value.unsigned]);
  above.add(value);
  const copy = Array.isArray(value)
    ? Array.from(value, (item) => marked(item, above))
    : fieldsOf(value, above);
  above.delete(value);
  return copy;
}

function fieldsOf(value: object, above: Set<object>): unknown {
  if (value instanceof Map || value instanceof Set || hasAccessors(value)) throw notWritten();
  const fields = Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .map(([name, item]) => [name, marked(item, above)]),
  );
  return Object.hasOwn(fields, TAG) ? mark('object', Object.entries(fields)) : fields;
}

function unmarked(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, TAG)) return value;
  const { [TAG]: tag, value: held } = value as Marked;
  switch (tag) {
    case 'bigint':
      return BigInt(held as string);
    case 'bytes':
      return Buffer.from(held as string, 'base64');
    case 'date':
      return new Date((held as number | null) ?? Number.NaN);
    case 'number':
      return Number(held);
    case 'long': {
      const [low, high, unsigned] = held as [number, number, boolean];
      return new StoredLong(low, high, unsigned);
    }
    default:
      return Object.fromEntries(held as [string, unknown][]);
  }
}

const mark = (tag: Marked[typeof TAG], value: unknown): Marked => ({ [TAG]: tag, value });

const numberText = (value: number): string => (Object.is(value, -0) ? '-0' : String(value));

const notWritten = (): TypeError => new TypeError('protobuf would not write this value');

/** By which `Long.isLong` tells. */
const LONG_MARK = '__isLong__';

const isLong = (value: object): value is LongLike =>
  (value as { readonly [LONG_MARK]?: unknown })[LONG_MARK] === true;

/**
 * True if a class reads some of its fields from elsewhere, as entities of mappers do: its own
 * fields are then not all.
 */
function hasAccessors(value: object): boolean {
  let prototype: unknown = Object.getPrototypeOf(value);
  while (prototype !== null && prototype !== Object.prototype) {
    const properties = Object.values(Object.getOwnPropertyDescriptors(prototype as object));
    if (properties.some((property) => property.get !== undefined)) return true;
    prototype = Object.getPrototypeOf(prototype);
  }
  return false;
}

/** A `Long` as far as protobuf looks at one. */
class StoredLong implements LongLike {
  constructor(
    readonly low: number,
    readonly high: number,
    readonly unsigned: boolean,
  ) {}

  toNumber(): number {
    return Number(this.toBigInt());
  }

  toBigInt(): bigint {
    const bits = (BigInt(this.high) << 32n) | BigInt(this.low >>> 0);
    return this.unsigned ? BigInt.asUintN(64, bits) : BigInt.asIntN(64, bits);
  }

  toString(): string {
    return String(this.toBigInt());
  }
}
Object.defineProperty(StoredLong.prototype, LONG_MARK, { value: true });
