import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { isBytes } from '../atomic-redis.validation.js';
import { copyBytes } from '../scripting/copies.js';
import type { ShadowCommand, ShadowConnection } from './shadow-connection.js';
import { ShadowBuildEndedError } from './shadow-key.errors.js';
import type { Shadow, ShadowType } from './shadow-type.js';
import { copyItem, isCollection } from './shadow-source.js';
import type { ShadowValue, ShadowWriter } from './shadow-writer.js';

/**
 * A chunk is sent when it holds this many elements, or characters: about half a millisecond of
 * Redis's time.
 */
const MAX_ELEMENTS = 1_000;
const MAX_CHARACTERS = 131_072;

const DONE = Promise.resolve();

export class ChunkingWriter implements ShadowWriter {
  private commands: ShadowCommand[] = [];
  /** The arguments of the chunk's command, if one command takes many elements. */
  private args: (string | Buffer)[] | undefined;
  private elements = 0;
  private characters = 0;
  private written = 0;
  private hasEnded = false;
  /** Writes that wait for room, with elements still to come. */
  private readonly waiting = new Set<Promise<void>>();

  constructor(
    private readonly shadow: Shadow,
    private readonly connection: ShadowConnection,
  ) {}

  get signal(): AbortSignal {
    return this.connection.signal;
  }

  hset(fields: Parameters<ShadowWriter['hset']>[0]): Promise<void> {
    return this.write('hset', 'hash', () => entriesOf('hset', fields));
  }

  rpush(...elements: readonly ShadowValue[]): Promise<void> {
    return this.write('rpush', 'list', () => elements);
  }

  sadd(...members: readonly ShadowValue[]): Promise<void> {
    return this.write('sadd', 'set', () => members);
  }

  zadd(scores: Parameters<ShadowWriter['zadd']>[0]): Promise<void> {
    return this.write('zadd', 'zset', () => entriesOf('zadd', scores));
  }

  xadd(fields: Parameters<ShadowWriter['xadd']>[0], id = '*'): Promise<void> {
    return this.write(
      'xadd',
      'stream',
      () => [fields],
      (entry) => this.addEntry(entry, id),
    );
  }

  set(value: ShadowValue): Promise<void> {
    return this.write(
      'set',
      'string',
      () => [value],
      (whole) => this.addString('set', 'SET', whole),
    );
  }

  append(value: ShadowValue): Promise<void> {
    return this.write('append', 'string', () => [value]);
  }

  /**
   * Writes one element, in the form that an iterable of this type yields. Returns a promise to
   * await before the next one, or undefined. An error that it throws must end the build.
   */
  put(type: ShadowType, item: unknown): Promise<void> | undefined {
    this.signal.throwIfAborted();
    this.assertType(type, type);
    this.adders[type](item);
    return this.flushIfFull();
  }

  /** Sends the rest. Resolves when Redis has confirmed all of it. */
  async end(): Promise<void> {
    this.hasEnded = true;
    await Promise.all(this.waiting);
    if (this.elements > 0) this.flush();
    if (this.shadow.hasBegun) this.connection.measure(this.shadow);
    await this.connection.settled();
  }

  private readonly adders: Readonly<Record<ShadowType, (item: unknown) => void>> = {
    hash: (entry) => {
      const pair = pairOf('hset', entry);
      const args = this.chunkArgs('HSET');
      this.count(push(args, 'hset', pair[0]) + push(args, 'hset', pair[1], pair[0]));
    },
    list: (element) => this.count(push(this.chunkArgs('RPUSH'), 'rpush', element)),
    set: (member) => this.count(push(this.chunkArgs('SADD'), 'sadd', member)),
    zset: (entry) => {
      const [member, score] = pairOf('zadd', entry);
      if (typeof score !== 'number' || Number.isNaN(score))
        throw notWritable('zadd', 'a number', score, member);
      const args = this.chunkArgs('ZADD');
      args.push(String(score));
      this.count(push(args, 'zadd', member));
    },
    stream: (fields) => this.addEntry(fields, '*'),
    string: (piece) => this.addString('append', 'APPEND', piece),
  };

  private addEntry(fields: unknown, id: string): void {
    const args: (string | Buffer)[] = [this.shadow.key];
    let characters = push(args, 'xadd', id);
    for (const entry of entriesOf('xadd', fields)) {
      const [field, value] = pairOf('xadd', entry);
      characters += push(args, 'xadd', field) + push(args, 'xadd', value, field);
    }
    if (args.length === 2) throw notWritable('xadd', 'one field or more', fields);
    this.commands.push(['XADD', args]);
    this.count(characters);
  }

  private addString(method: string, command: string, value: unknown): void {
    const args: (string | Buffer)[] = [this.shadow.key];
    push(args, method, value);
    this.commands.push([command, args]);
    const bytes = Buffer.byteLength(args[1]!);
    this.count(bytes, bytes);
  }

  private write(
    method: string,
    type: ShadowType,
    itemsOf: () => Iterable<unknown>,
    add: (item: unknown) => void = this.adders[type],
  ): Promise<void> {
    if (this.signal.aborted) return known(Promise.reject(this.signal.reason as Error));
    // The write is missing from the value, and only the build can report that.
    if (this.hasEnded) return Promise.reject(new ShadowBuildEndedError(this.shadow.liveKey));
    try {
      this.assertType(type, method);
      const given = itemsOf();
      const items = given[Symbol.iterator]();
      const room = this.pump(items, add);
      if (!room) return DONE;
      // The rest is read later, so it is copied now.
      return this.goOn(room, isCollection(given) ? restOf(items) : items, add);
    } catch (error) {
      this.connection.fail(error);
      return known(Promise.reject(error));
    }
  }

  private assertType(type: ShadowType, given: string): void {
    const { shadow } = this;
    shadow.type ??= type;
    if (shadow.type !== type)
      throw new InvalidArgumentError('writer', `used for one type of value, here a ${shadow.type}`, given);
  }

  /**
   * Takes items until there is no room for more, and returns a promise to await then; undefined if
   * it took them all.
   */
  private pump(items: Iterator<unknown>, add: (item: unknown) => void): Promise<void> | undefined {
    for (let next = items.next(); next.done !== true; next = items.next()) {
      add(next.value);
      const room = this.flushIfFull();
      if (room) return room;
    }
    return undefined;
  }

  private goOn(room: Promise<void>, items: Iterator<unknown>, add: (item: unknown) => void): Promise<void> {
    const takeRest = async (): Promise<void> => {
      try {
        for (let wait: Promise<void> | undefined = room; wait; wait = this.pump(items, add)) await wait;
      } catch (error) {
        this.connection.fail(error);
        throw error;
      } finally {
        this.waiting.delete(rest);
      }
    };
    const rest = takeRest();
    this.waiting.add(rest);
    return known(rest);
  }

  private flushIfFull(): Promise<void> | undefined {
    if (this.elements < MAX_ELEMENTS && this.characters < MAX_CHARACTERS) return undefined;
    this.flush();
    return this.connection.room();
  }

  private flush(): void {
    this.connection.send(this.shadow, this.commands, this.written);
    this.commands = [];
    this.args = undefined;
    this.elements = this.characters = this.written = 0;
  }

  private chunkArgs(command: string): (string | Buffer)[] {
    if (!this.args) this.commands.push([command, (this.args = [this.shadow.key])]);
    return this.args;
  }

  private count(characters: number, written = 1): void {
    this.elements++;
    this.characters += characters;
    this.written += written;
  }
}

/**
 * Adds an argument, and copies bytes, since a chunk is sent later. Returns its approximate size in
 * characters.
 */
function push(args: (string | Buffer)[], method: string, value: unknown, field?: unknown): number {
  const argument = typeof value === 'string' || Buffer.isBuffer(value) ? value : toText(method, value, field);
  if (!isBytes(argument)) throw notWritable(method, 'well-formed text', value, field);
  args.push(typeof argument === 'string' ? argument : copyBytes(argument));
  return argument.length;
}

/** Copies the items that an iterator has not yielded yet. */
const restOf = (items: Iterator<unknown>): Iterator<unknown> =>
  Array.from({ [Symbol.iterator]: () => items }, copyItem).values();

/** Marks a promise as handled: its rejection reaches the caller in another way. */
function known(promise: Promise<void>): Promise<void> {
  promise.catch(() => undefined);
  return promise;
}

function toText(method: string, value: unknown, field: unknown): string {
  if (typeof value === 'bigint' || (typeof value === 'number' && Number.isFinite(value)))
    return String(value);
  throw notWritable(method, 'a string, a Buffer, a finite number or a bigint', value, field);
}

function notWritable(
  method: string,
  expected: string,
  value: unknown,
  field?: unknown,
): InvalidArgumentError {
  const where = typeof field === 'string' ? `.${field.slice(0, 80)}` : '';
  return new InvalidArgumentError(`writer.${method}${where}`, expected, value);
}

function pairOf(method: string, entry: unknown): readonly unknown[] {
  if (!Array.isArray(entry) || entry.length !== 2) throw notWritable(method, 'made of pairs', entry);
  return entry;
}

function entriesOf(method: string, fields: unknown): Iterable<readonly unknown[]> {
  if (typeof fields !== 'object' || fields === null)
    throw notWritable(method, 'an object or an iterable of pairs', fields);
  return Symbol.iterator in fields ? (fields as Iterable<readonly unknown[]>) : Object.entries(fields);
}
