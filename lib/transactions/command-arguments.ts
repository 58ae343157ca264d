import { Command } from 'ioredis';
import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { OBJECT_COMMANDS } from './transaction-commands.js';

/**
 * Checks the arguments of a command, and puts copies in the place of those that the caller may
 * change before they are sent: what was checked is what is sent. ioredis would send undefined and
 * null as "", and objects as "[object Object]".
 *
 * @returns `args` itself
 * @throws InvalidArgumentError
 */
export function ownArguments(path: string, name: string, args: unknown[]): unknown[] {
  for (let i = 0; i < args.length; i++) {
    const value = args[i];
    if (isPrimitive(value)) continue;
    if (Array.isArray(value)) args[i] = ownValues(path, [...(value as unknown[])]);
    else if (OBJECT_COMMANDS.has(name) && value instanceof Map)
      args[i] = new Map([...value].map((entry) => ownValues(path, entry) as [unknown, unknown]));
    else if (OBJECT_COMMANDS.has(name) && isPlainObject(value))
      args[i] = Object.fromEntries(Object.entries(value).map((entry) => ownValues(path, entry)));
    else args[i] = ownBytes(path, value);
  }
  return args;
}

/** The keys among the arguments of a command, as ioredis finds them. */
export function keysOf(name: string, args: readonly unknown[]): string[] {
  const command = new Command(name.replace(/Buffer$/, ''), args as (string | Buffer | number)[]);
  return command.getKeys().map(String);
}

/** Copies the values in an array or an object: ioredis takes no nested ones. */
function ownValues(path: string, values: unknown[]): unknown[] {
  for (let i = 0; i < values.length; i++) if (!isPrimitive(values[i])) values[i] = ownBytes(path, values[i]);
  return values;
}

function ownBytes(path: string, value: unknown): Buffer {
  if (Buffer.isBuffer(value)) return Buffer.from(value);
  throw new InvalidArgumentError(path, 'given strings, Buffers, finite numbers or bigints', value);
}

const isPrimitive = (value: unknown): boolean =>
  typeof value === 'string' || Number.isFinite(value) || typeof value === 'bigint';

function isPlainObject(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
