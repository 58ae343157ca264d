import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis, type RedisOptions } from 'ioredis';
import { startFaultProxy, type FaultProxy, type RedisCommand } from '../../lib/testing/index.js';
import { countCommands } from './command-stats.js';
import { useRedis } from './redis.js';
import { waitFor } from './wait-for.js';

const named =
  (name: string) =>
  (command: RedisCommand): boolean =>
    command.name === name;

describe('fault proxy', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let client: Redis;

  /**
   * A client that sends everything once: what the network did to a request is what the caller sees.
   */
  const connect = async (options: RedisOptions = {}): Promise<Redis> => {
    const made = new Redis(proxy.port, proxy.host, {
      retryStrategy: () => null,
      maxRetriesPerRequest: 0,
      // On a connection that is closed already, ioredis's disconnect() keeps a timer of this length
      // alive.
      disconnectTimeout: 10,
      ...options,
    });
    made.on('error', () => {});
    await once(made, 'ready');
    return made;
  };

  /**
   * Time for whatever the proxy lets through: bytes on their way make a few turns of the event
   * loop, this makes many.
   */
  const roundTrips = async () => {
    for (let i = 0; i < 20; i++) await redis.client.ping();
  };

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server.url });
    client = await connect();
  });

  afterEach(async () => {
    client.disconnect();
    await proxy.stop();
  });

  it('passes everything by default: binary values, pipelines, large values, pub/sub', async () => {
    const binary = Buffer.from([0, 13, 10, 36, 255, 42, 13, 10]);
    const large = Buffer.alloc(3_000_000, '\r\n$5\r\n');
    await client.set('binary', binary);
    await client.set('large', large);
    expect(await client.getBuffer('binary')).toEqual(binary);
    expect((await client.getBuffer('large'))?.equals(large)).toBe(true);
    const replies = await client.pipeline().hset('h', { a: '1' }).hgetall('h').get('none').lpop('h').exec();
    expect(replies?.map(([error, value]) => error?.message.slice(0, 9) ?? value)).toEqual([
      1,
      { a: '1' },
      null,
      'WRONGTYPE',
    ]);
  });

  it.each([2, 3] as const)('distinguishes pushed messages from replies under RESP%i', async (protocol) => {
    const subscriber = await connect({ protocol });
    expect(await subscriber.subscribe('a', 'b')).toBe(2);
    const message = once(subscriber, 'message');
    await client.publish('b', 'hello');
    expect(await message).toEqual(['b', 'hello']);
    await subscriber.unsubscribe();
    const fault = proxy.loseReplies();
    await expect(subscriber.incr('after')).rejects.toThrow('Connection is closed');
    await fault.triggered;
    expect(await redis.client.get('after')).toBe('1');
    subscriber.disconnect();
  });

  it('loseReplies applies the command once, and the client sees the connection closed', async () => {
    const fault = proxy.loseReplies();
    await expect(client.incr('n')).rejects.toThrow('Connection is closed');
    await fault.triggered;
    expect(fault.count).toBe(1);
    expect(await redis.client.get('n')).toBe('1');
  });

  it('cutBeforeServer keeps the request from arriving', async () => {
    const fault = proxy.cutBeforeServer();
    const commands = await countCommands(redis.client, () =>
      expect(client.incr('n')).rejects.toThrow('Connection is closed'),
    );
    await fault.triggered;
    expect(commands).toEqual({});
  });

  it('deliverLate delivers the request after the client got an error', async () => {
    const fault = proxy.deliverLate(200);
    await expect(client.incr('n')).rejects.toThrow('Connection is closed');
    await fault.triggered;
    expect(await redis.client.get('n')).toBeNull();
    expect(await fault.delivered).toBe(true);
    expect(await redis.client.get('n')).toBe('1');
  });

  it('deliverLate resolves to false when the server disconnected first', async () => {
    const fault = proxy.deliverLate(60_000);
    await expect(client.incr('n')).rejects.toThrow('Connection is closed');
    await redis.client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    expect(await fault.delivered).toBe(false);
  });

  it('deliverPartOfReply gives the client no whole reply', async () => {
    await redis.client.set('n', 'x'.repeat(100));
    const fault = proxy.deliverPartOfReply(50);
    const received = new Promise<number>((resolve) => {
      // The socket is the client's own; its counter tells how much of the reply came through.
      const { stream } = client as unknown as { stream: Socket };
      const before = stream.bytesRead;
      stream.once('close', () => resolve(stream.bytesRead - before));
    });
    await expect(client.get('n')).rejects.toThrow('Connection is closed');
    await fault.triggered;
    expect(await received).toBe(50);
  });

  it('blackHole stops all bytes, and neither side gets an error', async () => {
    const fault = proxy.blackHole();
    let settled = false;
    const lost = client.incr('n').finally(() => (settled = true));
    lost.catch(() => {});
    await fault.triggered;
    await roundTrips();
    const other = await connect();
    await other.incr('n');
    expect(await other.get('n')).toBe('1');
    expect(settled).toBe(false);
    expect(client.status).toBe('ready');
    proxy.reset();
    await expect(lost).rejects.toThrow('Connection is closed');
    other.disconnect();
  });

  it('blackHole with deliver applies the command and then stays silent', async () => {
    const fault = proxy.blackHole({ deliver: true });
    let settled = false;
    for (const lost of [client.incr('n'), client.incr('n')]) {
      lost.catch(() => {}).finally(() => (settled = true));
    }
    await fault.triggered;
    await roundTrips();
    expect(await redis.client.get('n')).toBe('2');
    expect(settled).toBe(false);
    expect(client.status).toBe('ready');
  });

  it('blackHoleNow makes a blocked consumer a zombie that still takes the job', async () => {
    const blocked = client.blmove('queue', 'processing', 'LEFT', 'RIGHT', 0);
    let settled = false;
    blocked.catch(() => {}).finally(() => (settled = true));
    while (!(await redis.client.info('clients')).includes('blocked_clients:1'));
    proxy.blackHoleNow();
    await redis.client.rpush('queue', 'job');
    expect(await redis.client.lrange('processing', 0, -1)).toEqual(['job']);
    await roundTrips();
    expect(settled).toBe(false);
  });

  it('delay holds request and reply, and later commands keep their order', async () => {
    const fault = proxy.delay({ requestMs: 60, replyMs: 60, match: named('INCR') });
    const started = performance.now();
    const order: string[] = [];
    const first = client.incr('n').then(() => order.push('incr'));
    const second = client.get('n').then((value) => order.push(`get ${value}`));
    await Promise.all([first, second]);
    expect(performance.now() - started).toBeGreaterThanOrEqual(115);
    expect(order).toEqual(['incr', 'get 1']);
    expect(fault.count).toBe(1);
  });

  describe('one of a pipelined batch', () => {
    const outcome = async () => {
      const batch = [client.incr('before'), client.incr('struck'), client.incr('after')];
      return (await Promise.allSettled(batch)).map(({ status }) => status);
    };
    const match = ({ args }: RedisCommand) => args[0]?.toString() === 'struck';

    it('loseReplies answers earlier commands, and loses the replies from its command on', async () => {
      const { triggered } = proxy.loseReplies({ match });
      expect(await outcome()).toEqual(['fulfilled', 'rejected', 'rejected']);
      await triggered;
      expect(await redis.client.mget('before', 'struck', 'after')).toEqual(['1', '1', '1']);
    });

    it('cutBeforeServer answers earlier commands, and delivers nothing from its command on', async () => {
      const { triggered } = proxy.cutBeforeServer({ match });
      expect(await outcome()).toEqual(['fulfilled', 'rejected', 'rejected']);
      await triggered;
      expect(await redis.client.mget('before', 'struck', 'after')).toEqual(['1', null, null]);
    });

    it('deliverLate answers earlier commands, and delivers the rest together', async () => {
      const fault = proxy.deliverLate(100, { match });
      expect(await outcome()).toEqual(['fulfilled', 'rejected', 'rejected']);
      expect(await redis.client.mget('before', 'struck', 'after')).toEqual(['1', null, null]);
      expect(await fault.delivered).toBe(true);
      expect(await redis.client.mget('before', 'struck', 'after')).toEqual(['1', '1', '1']);
    });

    it('EXEC alone can be matched: the transaction is committed, its replies are lost', async () => {
      const fault = proxy.loseReplies({ match: named('EXEC') });
      await expect(client.multi().incr('a').incr('b').exec()).rejects.toThrow('connection close');
      expect(fault.count).toBe(1);
      expect(await redis.client.mget('a', 'b')).toEqual(['1', '1']);
    });
  });

  it('strikes the requested number of times, leaves handshakes alone, and can be cancelled', async () => {
    const fault = proxy.cutBeforeServer({ times: 2 });
    await expect(client.incr('n')).rejects.toThrow('Connection is closed');
    client = await connect();
    await client.ping();
    await expect(client.incr('n')).rejects.toThrow('Connection is closed');
    client = await connect();
    expect(await client.incr('n')).toBe(1);
    expect(fault.count).toBe(2);
    const cancelled = proxy.cutBeforeServer({ times: Infinity });
    cancelled.cancel();
    expect(await client.incr('n')).toBe(2);
    expect(cancelled.count).toBe(0);
  });

  it('a struck connection uses up no strike of another fault', async () => {
    proxy.loseReplies({ match: named('INCR') });
    const second = proxy.cutBeforeServer({ match: named('DECR') });
    await Promise.allSettled([client.incr('n'), client.decr('m')]);
    expect(second.count).toBe(0);
  });

  it('pause holds, resume delivers', async () => {
    proxy.pause();
    let settled = false;
    const held = client.incr('n').finally(() => (settled = true));
    await roundTrips();
    expect(await redis.client.get('n')).toBeNull();
    expect(settled).toBe(false);
    proxy.resume();
    expect(await held).toBe(1);
  });

  it.each([
    ['delayed', () => proxy.delay({ requestMs: 50 })],
    ['to be delivered late', () => proxy.deliverLate(50)],
  ])('pause holds a request that is %s, even when its time has come', async (_, strike) => {
    const fault = strike();
    client.incr('n').catch(() => {});
    await fault.triggered;
    proxy.pause();
    await sleep(100);
    expect(await redis.client.get('n')).toBeNull();
    proxy.resume();
    await waitFor('the request', async () => (await redis.client.get('n')) === '1');
  });

  it('pause holds a delayed reply, even when its time has come', async () => {
    proxy.delay({ replyMs: 1_000 });
    let settled = false;
    const held = client.incr('n').finally(() => (settled = true));
    await waitFor('the request', async () => (await redis.client.get('n')) === '1');
    proxy.pause();
    await sleep(1_200);
    expect(settled).toBe(false);
    proxy.resume();
    expect(await held).toBe(1);
  });

  it('refuses new connections, closes open ones, and counts both', async () => {
    expect(proxy.connections).toBe(1);
    const before = { commands: proxy.commandsSeen, trips: proxy.roundTrips };
    await client.incr('n');
    await client.pipeline().incr('n').incr('n').exec();
    expect(proxy.commandsSeen - before.commands).toBe(3);
    expect(proxy.roundTrips - before.trips).toBe(2);

    proxy.refuseConnections(true);
    proxy.disconnectAll();
    await once(client, 'end');
    expect(proxy.openConnections).toBe(0);
    await expect(connect()).rejects.toThrow('ECONNRESET');
    expect(proxy.connections).toBe(1);
    proxy.reset();
    client = await connect();
    expect(await client.get('n')).toBe('3');
  });

  it('accepts only supported targets', async () => {
    await expect(startFaultProxy({ target: 'rediss://127.0.0.1:1' })).rejects.toThrow('only redis:// URLs');
  });
});
