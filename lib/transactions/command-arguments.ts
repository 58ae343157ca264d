import { Command } from 'ioredis';
import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { OBJECT_COMMANDS } from './transaction-commands.js';

/**
 * Checks the arguments of a command, and puts copies in the place of those that the caller may change before they are sent: what was checked is
 * what is sent. ioredis would send undefined and null as "", and objects as "[object Object]".
 *
 * @returns `args` itself
 * @throws InvalidArgumentError
 */
export function ownArguments(path: string, name: string, args: unknown[]): unknown[] {
  for (let i = 0; i < args.length; i++) {
    const value = args[i];
    if (typeof value === 'string' || Number.isFinite(value) || typeof value === 'bigint') continue;
    args[i] = copyOf(path, name, value);
  }
  return args;
}

/** The keys among the arguments of a command, as ioredis finds them. */
export function keysOf(name: string, args: readonly unknown[]): string[] {
  const command = new Command(name.replace(/Buffer$/, ''), args as (string | Buffer | number)[]);
  return command.getKeys().map(String);
}

function copyOf(path: string, name: string, value: unknown): unknown {
  if (Buffer.isBuffer(value)) return Buffer.from(value);
  if (Array.isArray(value)) return ownArguments(path, name, [...(value as unknown[])]);
  if (OBJECT_COMMANDS.has(name)) {
    if (value instanceof Map) return new Map(ownArguments(path, name, [...value]) as [unknown, unknown][]);
    if (isPlainObject(value)) {
      const copy = Object.entries(value);
      for (const entry of copy) ownArguments(path, name, entry);
      return Object.fromEntries(copy);
    }
  }
  throw new InvalidArgumentError(path, 'given strings, Buffers, finite numbers or bigints', value);
}

function isPlainObject(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
