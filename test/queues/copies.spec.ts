import { Logger } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import { ReliableQueueService, ShadowKeyService } from '../../lib/index.js';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';

type Services = { queues: ReliableQueueService; shadow: ShadowKeyService };

/**
 * A call that is given arguments which are changed right after it, and what must be in Redis then.
 */
interface Given {
  readonly call: (services: Services) => { done: Promise<unknown>; change: () => void };
  readonly read: (services: Services) => Promise<unknown>;
  readonly expected: unknown;
}

describe('arguments of queues and shadow keys', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let services: Services;
  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: proxy.url });
    services = { queues: app.get(ReliableQueueService), shadow: app.get(ShadowKeyService) };
  });
  afterEach(async () => {
    proxy.reset();
    await proxy.stop();
  });

  const payloads = async ({ queues }: Services): Promise<string[]> => {
    const all: string[] = [];
    const queue = queues.get('q', { format: 'bytes' });
    for (let job = await queue.take(); job; job = await queue.take()) {
      all.push(`${job.payload.length} ${job.payload.toString('latin1', 0, 1)}`);
    }
    return all;
  };
  const hash = (): Promise<Record<string, string>> => redis.client.hgetall('k');
  /** More than one chunk, so that some of it is read later. */
  const many = (value: Buffer): [string, Buffer][] =>
    Array.from({ length: 5_000 }, (_, i) => [`f${i}`, value] as [string, Buffer]);
  const sizeAndLast = async (): Promise<unknown> => [
    await redis.client.hlen('k'),
    await redis.client.hget('k', 'f4999'),
  ];

  const calls: Record<string, Given> = {
    push: {
      call: ({ queues }) => {
        const bytes = Buffer.from('a');
        return { done: queues.get('q', { format: 'bytes' }).push(bytes), change: () => bytes.fill('x') };
      },
      read: payloads,
      expected: ['1 a'],
    },
    'push of many bytes': {
      call: ({ queues }) => {
        const bytes = Buffer.alloc(100_000, 'a');
        return { done: queues.get('q', { format: 'bytes' }).push(bytes), change: () => bytes.fill('x') };
      },
      read: payloads,
      expected: ['100000 a'],
    },
    pushMany: {
      call: ({ queues }) => {
        const list = [Buffer.from('a'), Buffer.from('b')];
        const done = queues.get('q', { format: 'bytes' }).pushMany(list);
        return { done, change: () => (list.pop()!.fill('x'), list[0]!.fill('x')) };
      },
      read: payloads,
      expected: ['1 a', '1 b'],
    },
    'the options of push': {
      call: ({ queues }) => {
        const options = { timeoutMs: 20_000 };
        const done = queues.get('q', { format: 'bytes' }).push(Buffer.from('a'), options);
        return { done, change: () => void Object.assign(options, { timeoutMs: -1, marker: 'x' }) };
      },
      read: payloads,
      expected: ['1 a'],
    },
    'replace by an object': {
      call: ({ shadow }) => {
        const source: Record<string, Buffer> = { a: Buffer.from('1') };
        const change = (): void => {
          source['a']!.fill('x');
          source['b'] = Buffer.from('x');
        };
        return { done: shadow.replace('k', source), change };
      },
      read: hash,
      expected: { a: '1' },
    },
    'replace by pairs': {
      call: ({ shadow }) => {
        const source = many(Buffer.from('1'));
        const change = (): void => {
          for (const pair of source) pair[1].fill('x');
          for (const pair of source) pair[0] = 'x';
          source.length = 1;
        };
        return { done: shadow.replace('k', source), change };
      },
      read: sizeAndLast,
      expected: [5_000, '1'],
    },
    'replace by a Map': {
      call: ({ shadow }) => {
        const source = new Map([['a', Buffer.from('1')]]);
        return {
          done: shadow.replace('k', source),
          change: () => (source.get('a')!.fill('x'), source.clear()),
        };
      },
      read: hash,
      expected: { a: '1' },
    },
    'the options of replace': {
      call: ({ shadow }) => {
        const options = { type: 'list' as const, ttlMs: 60_000 };
        const change = (): void => void Object.assign(options, { type: 'set', ttlMs: 1 });
        return { done: shadow.replace('k', ['a', 'b'], options), change };
      },
      read: async () => [await redis.client.lrange('k', 0, -1), (await redis.client.pttl('k')) > 30_000],
      expected: [['a', 'b'], true],
    },
    'a write that is not awaited': {
      call: ({ shadow }) => {
        const value = Buffer.from('1');
        const fields = many(value);
        const done = shadow.replace('k', (writer) => {
          void writer.hset(fields);
          value.fill('x');
          for (const pair of fields) pair[0] = 'x';
          fields.length = 1;
        });
        return { done, change: () => undefined };
      },
      read: sizeAndLast,
      expected: [5_000, '1'],
    },
  };

  it.each(Object.keys(calls))('[ARG-2] are copied when the call is made: %s', async (name) => {
    const { call, read, expected } = calls[name]!;
    const { done, change } = call(services);
    change();
    await done;
    expect(await read(services)).toEqual(expected);
  });

  it.each(Object.keys(calls))(
    '[ARG-2] are copied even if the call waits for a connection: %s',
    async (name) => {
      const { call, read, expected } = calls[name]!;
      proxy.refuseConnections(true);
      proxy.disconnectAll();
      const { done, change } = call(services);
      setImmediate(change);
      setTimeout(() => proxy.refuseConnections(false), 100);
      await done;
      expect(await read(services)).toEqual(expected);
    },
  );

  it('[SK-15] can be reused by the caller once a write of them has resolved', async () => {
    const { shadow } = services;
    const size = 40_000;
    await shadow.replace('file', async (writer) => {
      const buffer = Buffer.alloc(size);
      for (let i = 0; i < 20; i++) {
        buffer.fill(65 + i);
        await writer.append(buffer.subarray(0, size - i));
      }
    });
    const blocks = Array.from({ length: 20 }, (_, i) => Buffer.alloc(size - i, 65 + i));
    expect((await redis.client.getBuffer('file'))!.equals(Buffer.concat(blocks))).toBe(true);

    async function* reusing(): AsyncGenerator<[string, Buffer]> {
      const buffer = Buffer.alloc(4);
      for (let i = 0; i < 3_000; i++) {
        buffer.writeUInt32BE(i);
        yield [`f${i}`, buffer];
      }
    }
    await shadow.replace('hash', reusing());
    for (const i of [0, 999, 1_000, 2_999])
      expect((await redis.client.hgetBuffer('hash', `f${i}`))!.readUInt32BE()).toBe(i);
  });

  it('[SK-1] may contain an onProgress that rejects: the error is logged, and the build continues', async () => {
    const errors: unknown[][] = [];
    const silent = () => undefined;
    Logger.overrideLogger({ log: silent, warn: silent, error: (...all: unknown[]) => errors.push(all) });
    const why = new Error('progress could not be saved');
    try {
      const onProgress = async (): Promise<void> => {
        throw why;
      };
      expect(await services.shadow.replace('k', [['a', 1]], { onProgress })).toMatchObject({ swapped: true });
      await new Promise(setImmediate);
    } finally {
      Logger.overrideLogger(false);
    }
    expect(errors).toMatchObject([['onProgress rejected', why, 'ShadowKeyService']]);
  });
});
