import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { deserialize, serialize } from 'node:v8';
import { BadRequestException } from '@nestjs/common';
import {
  IdempotencyRecordError,
  IdempotencyResultUnavailableError,
  InvalidArgumentError,
  type ResultCodec,
  type ResultEncryption,
} from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate, rawBytes, useInstances } from './support.js';
import { damageRecord, readRecord } from '../support/idempotency-record.js';

const structured: ResultCodec = {
  encode: (value) => serialize(value),
  decode: (bytes) => deserialize(bytes),
};

function aes(key: Buffer): ResultEncryption {
  return {
    encrypt: (bytes, record) => {
      const iv = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(record));
      return Buffer.concat([iv, cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
    },
    decrypt: (bytes, record) => {
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, 12))
        .setAAD(Buffer.from(record))
        .setAuthTag(bytes.subarray(-16));
      return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]);
    },
  };
}

describe('the stored result', () => {
  const redis = useRedis();
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));
  const records = (): Promise<string[]> => redis.client.keys('atomic:idempotency:*');

  it.each([
    ['a Date', new Date(0)],
    ['a Map', new Map([['a', 1n]])],
    ['NaN', Number.NaN],
    ['bytes', Buffer.from([0, 255, 128])],
    ['undefined', undefined],
    ['nothing inside', { a: undefined, b: null }],
  ])('[ID-14] passes through the codec: %s', async (_, value) => {
    const { idempotency } = await instances.start({ idempotency: { codec: structured } });
    const first = await idempotency.run('k', () => value);
    const again: unknown = await idempotency.run<unknown>('k', () => 'ran again');
    expect(first).toBe(value);
    expect(again).toEqual(value);
  });

  it('[ID-14] passes through a call’s own codec instead of the module’s', async () => {
    const { idempotency } = await instances.start({ idempotency: { codec: structured } });
    const codec: ResultCodec = {
      encode: (value) => String(value),
      decode: (bytes) => `read ${bytes.toString()}`,
    };
    await idempotency.run('k', () => 7, { codec });
    await expect(idempotency.run('k', () => 8, { codec })).resolves.toBe('read 7');
  });

  it.each<[string, Partial<ResultCodec>]>([
    [
      'throws',
      {
        encode: () => {
          throw new Error('no');
        },
      },
    ],
    ['is asynchronous', { encode: (async () => 'text') as never }],
  ])('[ID-14] is not kept when the codec %s, and nothing runs again', async (_, broken) => {
    const { idempotency } = await instances.start({ idempotency: { codec: { ...structured, ...broken } } });
    await expect(idempotency.run('k', () => 1)).resolves.toBe(1);
    await expect(idempotency.run('k', () => 2)).rejects.toThrow(IdempotencyResultUnavailableError);
  });

  it('[ID-14] is left untouched when the codec cannot read it', async () => {
    const { idempotency } = await instances.start();
    await idempotency.run('k', () => 1);
    const codec: ResultCodec = {
      ...structured,
      decode: () => {
        throw new Error('another format');
      },
    };
    const error = await idempotency.run('k', () => 2, { codec }).catch((failure: unknown) => failure);
    expect(error).toBeInstanceOf(IdempotencyRecordError);
    expect((error as Error).cause).toEqual(new Error('another format'));
    await expect(idempotency.run('k', () => 2)).resolves.toBe(1);
  });

  it('[ID-14] is encrypted, values and errors alike, and bound to its record', async () => {
    const key = randomBytes(32);
    const { idempotency } = await instances.start({ idempotency: { encryption: aes(key) } });
    await idempotency.run('value', () => 'a secret');
    const [record] = await records();
    await idempotency
      .run('error', () => {
        throw new BadRequestException('a secret');
      })
      .catch(() => undefined);
    for (const one of await records()) {
      expect((await redis.client.getBuffer(one))!.includes('a secret')).toBe(false);
    }
    await expect(idempotency.run('value', () => 2)).resolves.toBe('a secret');
    await expect(idempotency.run('error', () => 2)).rejects.toThrow('a secret');

    // Passed off as another one's.
    await idempotency.run('other', () => 'another');
    const { result } = (await readRecord(redis.client, record!))!;
    for (const one of await records()) if (one !== record) await damageRecord(redis.client, one, { result });
    await expect(idempotency.run('other', () => 2)).rejects.toThrow(IdempotencyRecordError);

    const elsewhere = await instances.start({ idempotency: { encryption: aes(randomBytes(32)) } });
    await expect(elsewhere.idempotency.run('value', () => 2)).rejects.toThrow(IdempotencyRecordError);
    await expect(idempotency.run('value', () => 2)).resolves.toBe('a secret');
  });

  it('[ID-14] is not kept when it cannot be encrypted, and nothing runs again', async () => {
    const encryption: ResultEncryption = {
      encrypt: () => {
        throw new Error('no key');
      },
      decrypt: (bytes) => bytes,
    };
    const { idempotency, events } = await instances.start({
      idempotency: { encryption, replayCache: { maxBytes: 100_000 } },
    });
    await expect(idempotency.run('k', () => 1)).resolves.toBe(1);
    await waitFor('the event', () => events.length === 1);
    expect(events).toMatchObject([{ type: 'idempotency.run', outcome: 'held' }]);
    expect(await idempotency.inspect('k')).toMatchObject({ state: 'held' });
    await expect(idempotency.run('k', () => 2)).rejects.toThrow(IdempotencyResultUnavailableError);
  });

  it('[ID-14] reaches each of several waiters as bytes of its own', async () => {
    const { idempotency } = await instances.start({ idempotency: { codec: rawBytes, onDuplicate: 'wait' } });
    const { promise, resolve } = gate<Buffer>();
    const calls = [1, 2, 3].map(() => idempotency.run('k', () => promise));
    await waitFor('the subscription', async () => {
      const channels = (await redis.client.call('PUBSUB', 'SHARDCHANNELS')) as string[];
      return channels.length === 1;
    });
    resolve(Buffer.from('secret'));
    const [, second, third] = await Promise.all(calls);
    second!.fill(0);
    expect(third!.toString()).toBe('secret');
  });

  it.each([
    ['codec', { codec: {} }],
    ['encryption', { encryption: { encrypt: () => Buffer.alloc(0) } }],
    ['replayCache.maxBytes', { replayCache: {} }],
    ['replayCache.maxBytes', { replayCache: { maxBytes: 0 } }],
    ['onDuplicate', { onDuplicate: 'queue' }],
    ['onUnavailable', { onUnavailable: 'open' }],
    ['maxRunMs', { maxRunMs: 0 }],
    ['waitTimeoutMs', { waitTimeoutMs: -1 }],
  ])(
    '[ARG-1] cannot be configured with a wrong idempotency.%s: the boot fails',
    async (name, idempotency) => {
      const refused = await instances
        .start({ idempotency: idempotency as never })
        .catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(InvalidArgumentError);
      expect((refused as InvalidArgumentError).argument).toBe(`forRoot.idempotency.${name}`);
    },
  );
});
