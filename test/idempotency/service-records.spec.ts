import { Readable } from 'node:stream';
import type { TestingModule } from '@nestjs/testing';
import {
  IdempotencyMismatchError,
  IdempotencyRecordError,
  IdempotencyService,
  InvalidArgumentError,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { ObjectId } from './support.js';
import { damageRecord, type RecordFields } from '../support/idempotency-record.js';

class Money {
  constructor(readonly amount: number) {}
}

/** With nothing that shows what it holds. */
class Secret {
  readonly #amount: number;

  constructor(amount: number) {
    this.#amount = amount;
  }

  isMoreThan(other: number): boolean {
    return this.#amount > other;
  }
}

class Empty {}

class Sender {
  readonly send = (): number => this.to;

  constructor(readonly to: number) {}
}

/** Returns nested arrays whose innermost one contains one from the middle. */
function deepCycle(): unknown[] {
  const around: unknown[][] = [[]];
  for (let depth = 1; depth < 1_000; depth++) around.push([around[depth - 1]]);
  around[0]!.push(around[500]);
  return around.at(-1)!;
}

const nested = (depth: number, inside = ''): string => '['.repeat(depth) + inside + ']'.repeat(depth);

const shared = {};

function cyclic(): object {
  const cycle: unknown[] = [];
  cycle.push({ cycle });
  return cycle;
}

describe('the idempotency service', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let idempotency: IdempotencyService;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url });
    idempotency = app.get(IdempotencyService);
  });

  const recordOf = async (): Promise<string> => (await redis.client.keys('atomic:idempotency:*'))[0]!;

  const expectRefused = async (record: string): Promise<void> => {
    const before = await redis.client.dumpBuffer(record);
    let ran = false;
    const call = (): Promise<void> =>
      expect(idempotency.run('k', () => (ran = true))).rejects.toThrow(IdempotencyRecordError);
    await call();
    // Two calls in one EVALSHA.
    await Promise.all([call(), call()]);
    expect(ran).toBe(false);
    expect(await redis.client.dumpBuffer(record)).toEqual(before);
  };

  it.each<[string, Partial<RecordFields>]>([
    ['no kind', { kind: '' }],
    ['no result', { result: '' }],
    ['a committed state but no result', { state: 'committed', kind: '', result: '' }],
    ['a state of a newer version', { state: 'waiting' }],
    ['no state', { state: '' }],
    ['another version', { version: '2' }],
    ['a kind of a newer version', { kind: 'msgpack' }],
    ['bytes that are no JSON', { result: '{oops' }],
    ['an error that is no JSON', { kind: 'error', result: '[400' }],
    ['an error of another shape', { kind: 'error', result: '{"status":400}' }],
    ['an error without a status', { kind: 'error', result: '["400","bad"]' }],
    ['an error of no shape at all', { kind: 'error', result: 'null' }],
    ['a plain error of another shape', { kind: 'plain-error', result: '["TypeError"]' }],
    ['a thrown value that is no JSON', { kind: 'thrown', result: '' }],
    ['a reason of a newer version', { kind: 'tombstone', result: 'retired' }],
    ['a reason that every object has', { kind: 'tombstone', result: 'constructor' }],
  ])('[ID-9] refuses a record with %s, and leaves it untouched', async (_, damage) => {
    await expect(idempotency.run('k', () => 1)).resolves.toBe(1);
    const record = await recordOf();
    await damageRecord(redis.client, record, damage);
    await expectRefused(record);
  });

  it('[ID-9] refuses a key of another type under the name of a record, and leaves it untouched', async () => {
    await expect(idempotency.run('k', () => 1)).resolves.toBe(1);
    const record = await recordOf();
    await redis.client.del(record);
    await redis.client.hset(record, 'field', 'value');
    await expectRefused(record);
  });

  it.each<[string, (record: string) => Promise<unknown>]>([
    ['foreign', (record) => damageRecord(redis.client, record, { state: 'waiting' })],
    ['into a hash', (record) => redis.client.multi().del(record).hset(record, 'field', 'value').exec()],
  ])('[ID-9] does not complete, renew or release a record that turned %s during a run', async (_, turn) => {
    for (const fail of [false, true]) {
      await redis.client.flushall();
      let record = '';
      let before: Buffer | null = null;
      const run = idempotency.run(
        'k',
        async (current) => {
          record = await recordOf();
          await turn(record);
          before = await redis.client.dumpBuffer(record);
          await new Promise<void>((resolve) => current.signal.addEventListener('abort', () => resolve()));
          if (fail) throw new Error('mine');
        },
        { leaseMs: 1_000 },
      );
      await run.catch(() => undefined);
      expect(await redis.client.dumpBuffer(record)).toEqual(before);
    }
  });

  it.each<[string, unknown]>([
    ['a Map', new Map([[1, 2]])],
    ['a Set', new Set([1])],
    ['an instance that hides its content', new Secret(3)],
    ['such an instance inside an object', { order: [{ total: new Secret(3) }] }],
    ['a RegExp', /a/],
    ['a stream', Readable.from([])],
    ['a cycle deep inside', Array.from({ length: 1_000 }).reduce((inside) => [inside], cyclic())],
    ['a cycle from deep inside', deepCycle()],
    ['an Error', new Error('a')],
    ['a function', () => 1],
    ['a symbol', { a: Symbol('a') }],
    ['numbers of other than bytes', new Float32Array(1)],
    ['a promise', Promise.resolve(1)],
    ['a cycle', cyclic()],
    ['a boxed number', Object(1)],
  ])('[ARG-1] refuses %s as a fingerprint before any command', async (_, fingerprint) => {
    let ran = false;
    const counts = await countCommands(redis.client, async () => {
      const run = idempotency.run('k', () => (ran = true), { fingerprint });
      await expect(run).rejects.toThrow(InvalidArgumentError);
      await expect(run).rejects.toMatchObject({ argument: 'options.fingerprint' });
    });
    expect(counts).toEqual({});
    expect(ran).toBe(false);
  });

  it.each<[string, unknown, unknown]>([
    ['keys in another order', { a: 1, b: { c: 2, d: 3 } }, { b: { d: 3, c: 2 }, a: 1 }],
    ['a property that is undefined', { a: 1, b: undefined }, { a: 1 }],
    ['a Date and its ISO string', new Date(0), '1970-01-01T00:00:00.000Z'],
    ['the result of toJSON', { id: new ObjectId('f00') }, { id: 'f00' }],
    ['a Buffer and a Uint8Array', Buffer.from([1, 2]), new Uint8Array([1, 2])],
    ['an object without a prototype', Object.assign(Object.create(null), { a: 1 }), { a: 1 }],
    ['one object at two places', [shared, shared], [{}, {}]],
    ['zeros', -0, 0],
    ['an instance and its own properties', { total: new Money(3) }, { total: { amount: 3 } }],
    ['instances without properties', new Empty(), new Empty()],
    ['arrow functions of an instance', new Sender(1), { to: 1 }],
    ['values nested deep', JSON.parse(nested(50_000)), JSON.parse(nested(50_000))],
    ['infinities', JSON.parse('1e999'), Infinity],
  ])('[ID-4] takes %s for the same payload', async (_, first, second) => {
    await idempotency.run('k', () => 1, { fingerprint: first });
    await expect(idempotency.run('k', () => 2, { fingerprint: second })).resolves.toBe(1);
  });

  it.each<[string, unknown, unknown]>([
    ['a bigint and its text', 1n, '1n'],
    ['a bigint and a number', 1n, 1],
    ['bytes and their text', Buffer.from('a'), 'bytes:YQ=='],
    ['bytes inside', { file: Buffer.from('a') }, { file: Buffer.from('b') }],
    ['null and nothing', { a: null }, {}],
    ['an array and an object', [1], { 0: 1 }],
    ['text with quotes in it', { a: 'b","c":"d' }, { a: 'b', c: 'd' }],
    ['a property named __proto__', JSON.parse('{"__proto__":{"a":1}}'), {}],
    ['dates a millisecond apart', new Date(0), new Date(1)],
    ['instances', new Money(3), new Money(4)],
    ['infinities', Infinity, -Infinity],
    ['infinity and null', { a: JSON.parse('1e999') }, { a: null }],
    ['NaN and its text', Number.NaN, 'NaN'],
    ['an empty array and one of undefined', [undefined], []],
    ['values nested deep', JSON.parse(nested(50_000)), JSON.parse(nested(50_000, '1'))],
    ['nesting by one', JSON.parse(nested(100)), JSON.parse(nested(101))],
  ])('[ID-4] tells %s apart', async (_, first, second) => {
    await idempotency.run('k', () => 1, { fingerprint: first });
    await expect(idempotency.run('k', () => 2, { fingerprint: second })).rejects.toThrow(
      IdempotencyMismatchError,
    );
  });
});
