import {
  ListService,
  ModuleClosedError,
  InvalidUtf8Error,
  OutcomeUnknownError,
  IllegalTransactionStateError,
  WrongTypeError,
} from '../../lib/index.js';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { expectWrongArguments } from '../support/refused-calls.js';
import { waitFor } from '../support/wait-for.js';
import { inTransaction } from '../support/in-transaction.js';

describe('ListService', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let lists: ListService;
  let close: () => Promise<void>;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    const app = await boot({ connection: proxy.url });
    lists = app.get(ListService);
    let closed: Promise<void> | undefined;
    close = () => (closed ??= app.close());
  });
  afterEach(async () => {
    proxy.reset();
    await close();
    await proxy.stop();
  });

  const all = (key: string) => redis.client.lrange(key, 0, -1);
  const blocked = () =>
    waitFor('BLMOVE blocks', async () => (await redis.client.info('clients')).includes('blocked_clients:1'));

  it.each([
    [{}, '1', ['2', '3'], ['x', '1']],
    [{ from: 'right' }, '3', ['1', '2'], ['x', '3']],
    [{ to: 'left' }, '1', ['2', '3'], ['1', 'x']],
    [{ from: 'right', to: 'left' }, '3', ['1', '2'], ['3', 'x']],
  ] as const)('[LI-1] moves with %j in one step', async (options, moved, source, destination) => {
    await redis.client.rpush('a', '1', '2', '3');
    await redis.client.rpush('b', 'x');
    await lists.move('warm', 'up');
    const used = await countCommands(redis.client, async () => {
      expect(await lists.move('a', 'b', options)).toBe(moved);
    });
    expect(used.evalsha).toBe(1);
    expect([await all('a'), await all('b')]).toEqual([source, destination]);
  });

  it('[LI-1] rotates a list, returns null for an empty one, and preserves bytes', async () => {
    await redis.client.rpush('a', '1', '2');
    expect(await lists.move('a', 'a')).toBe('1');
    expect(await all('a')).toEqual(['2', '1']);
    expect(await lists.move('none', 'a')).toBeNull();
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    await redis.client.rpush('raw', bytes, '', 'EMPTY', 'TOO_LATE');
    expect(await lists.move('raw', 'b', { encoding: 'buffer' })).toEqual(bytes);
    expect(await redis.client.lrangeBuffer('b', 0, 0)).toEqual([bytes]);
    const refused = await lists.move('b', 'raw').catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(InvalidUtf8Error);
    expect(refused).toMatchObject({ bytes, outcome: 'applied' });
    for (const text of ['', 'EMPTY', 'TOO_LATE']) expect(await lists.move('raw', 'b')).toBe(text);
  });

  it('[LI-2] moves one element when the reply is lost, and none by a late copy', async () => {
    await redis.client.rpush('a', '1', '2', '3');
    const match = ({ name }: { name: string }) => name.startsWith('EVAL');
    proxy.loseReplies({ match });
    expect(await lists.move('a', 'b')).toBe('1');
    const late = proxy.deliverLate(400, { match });
    expect(await lists.move('a', 'b')).toBe('2');
    expect(await late.delivered).toBe(true);
    expect([await all('a'), await all('b')]).toEqual([['3'], ['1', '2']]);
  });

  it('[LI-3] waits for an element, and gives up in time', async () => {
    expect(await lists.move('a', 'b', { waitMs: 60 })).toBeNull();
    const waiting = lists.move('a', 'b', { from: 'right', to: 'left', waitMs: 60_000 });
    await blocked();
    await redis.client.rpush('a', '1');
    expect(await waiting).toBe('1');
    expect([await all('a'), await all('b')]).toEqual([[], ['1']]);
    await redis.client.rpush('a', '2');
    expect(await lists.move('a', 'b', { waitMs: 60_000 })).toBe('2');
  });

  it('[LI-3] waits longer than one BLMOVE does', async () => {
    const waiting = lists.move('a', 'b', { waitMs: 60_000 });
    const rounds = await waitFor('three rounds', async () => {
      const [, calls] = /cmdstat_blmove:calls=(\d+)/.exec(await redis.client.info('commandstats')) ?? [];
      return Number(calls) >= 3 && calls;
    });
    expect(Number(rounds)).toBeGreaterThanOrEqual(3);
    await redis.client.rpush('a', '1');
    expect(await waiting).toBe('1');
  });

  it('[LI-3] reports an unknown outcome when the connection is lost during the wait', async () => {
    const match = ({ name }: { name: string }) => name === 'BLMOVE';
    const fault = proxy.loseReplies({ match });
    const waiting = lists.move('a', 'b', { waitMs: 60_000 });
    const refused = waiting.catch((error: unknown) => error);
    await blocked();
    await redis.client.rpush('a', '1');
    expect(await refused).toBeInstanceOf(OutcomeUnknownError);
    expect(fault.count).toBe(1);
    // The element may be there, as the error says.
    expect(await all('b')).toEqual(['1']);
  });

  it('[LI-3] ends its waits when the module closes, and moves nothing afterwards', async () => {
    const waiting = lists.move('a', 'b', { waitMs: 60_000 });
    const refused = waiting.catch((error: unknown) => error);
    await blocked();
    await close();
    expect(await refused).toBeInstanceOf(ModuleClosedError);
    await redis.client.rpush('a', '1');
    expect([await all('a'), await all('b')]).toEqual([['1'], []]);
  });

  it('[LI-4] leaves a key of another type untouched', async () => {
    await redis.client.rpush('a', '1');
    await redis.client.set('s', 'text');
    for (const [from, to] of [
      ['s', 'a'],
      ['a', 's'],
    ] as const) {
      const error = await lists.move(from, to).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(WrongTypeError);
      expect(error).toMatchObject({ key: 's', expected: 'list' });
    }
    await expect(lists.move('e', 's', { waitMs: 100 })).resolves.toBeNull();
    expect([await all('a'), await redis.client.get('s')]).toEqual([['1'], 'text']);
  });

  it('[LI-4] reports a key of another type even if it appears during the wait', async () => {
    await redis.client.set('s', 'text');
    const moved = lists.move('e', 's', { waitMs: 20_000 }).catch((reason: unknown) => reason);
    await waitFor('BLMOVE blocks', async () =>
      (await redis.client.info('clients')).includes('blocked_clients:1'),
    );
    await redis.client.rpush('e', '1');
    const error = await moved;
    expect(error).toBeInstanceOf(WrongTypeError);
    expect(error).toMatchObject({ key: 's', expected: 'list', outcome: 'not-applied' });
    expect([await all('e'), await redis.client.get('s')]).toEqual([['1'], 'text']);
  });

  it('[LI-4] does nothing when Redis is out of memory', async () => {
    await redis.client.rpush('a', '1');
    await redis.client.config('SET', 'maxmemory', '1');
    const error = await lists.move('a', 'b').catch((reason: unknown) => reason);
    await redis.client.config('SET', 'maxmemory', '0');
    expect(error).toMatchObject({ reply: 'OOM', outcome: 'not-applied' });
    expect([await all('a'), await all('b')]).toEqual([['1'], []]);
  });

  it('[ARG-1] refuses bad input before any command', async () => {
    await lists.move('warm', 'up');
    await expectWrongArguments(redis.client, [
      ['source', () => lists.move('', 'b')],
      ['destination', () => lists.move('a', undefined as never)],
      ['options.from', () => lists.move('a', 'b', { from: 'top' as never })],
      ['options.waitMs', () => lists.move('a', 'b', { waitMs: -1 })],
      ['options.encoding', () => lists.move('a', 'b', { encoding: 'hex' as never })],
      ['options.seconds', () => lists.move('a', 'b', { seconds: 1 } as never)],
    ]);
  });

  it('[LI-4] is refused inside a transaction by default, and runs with propagation outside', async () => {
    await redis.client.rpush('a', '1');
    const work = async (): Promise<void> => {
      await expect(lists.move('a', 'b')).rejects.toBeInstanceOf(IllegalTransactionStateError);
      expect(await lists.move('a', 'b', { propagation: 'outside' })).toBe('1');
    };
    await inTransaction(work);
  });
});
