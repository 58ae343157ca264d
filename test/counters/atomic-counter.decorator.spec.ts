import { Injectable, Logger } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import {
  AtomicCounter,
  CounterLimitError,
  CounterService,
  InvalidArgumentError,
  OutcomeUnknownError,
  RedisUnavailableError,
} from 'nestjs-atomic-redis';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { RedisConnection } from '../../lib/connection/redis-connection.js';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';

interface Reservation {
  quantity: number;
  work?: () => unknown;
}

const stockOf = (sku: string): string => `inventory:{${sku}}`;
const takes = (_sku: string, { quantity }: Reservation): number => -quantity;

@Injectable()
class Inventory {
  calls = 0;
  prefix = 'reserved';

  @AtomicCounter({ key: stockOf, by: takes, min: 0 })
  async reserve(sku: string, { quantity, work }: Reservation): Promise<string> {
    this.calls++;
    await work?.();
    return `${this.prefix} ${quantity} of ${sku}`;
  }

  @AtomicCounter({ key: stockOf, by: takes, min: 0, onLimit: 'clamp' })
  async reserveWhatThereIs(_sku: string, { work }: Reservation): Promise<void> {
    await work?.();
  }

  @AtomicCounter({ key: stockOf, by: takes, onError: 'keep' })
  async count(_sku: string, { work }: Reservation): Promise<void> {
    await work?.();
  }

  // @ts-expect-error callers get a promise
  @AtomicCounter({ key: 'calls', by: 2n })
  synchronous(fails: boolean): string {
    if (fails) throw new Error('synchronous');
    return 'done';
  }

  @AtomicCounter({ key: 'calls' })
  async once(): Promise<void> {}
}

describe('@AtomicCounter', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let inventory: Inventory;
  let counters: CounterService;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: proxy.url }, { providers: [Inventory] });
    inventory = app.get(Inventory);
    counters = app.get(CounterService);
  });

  afterEach(async () => {
    jest.restoreAllMocks();
    await proxy.stop();
  });

  const stock = async (): Promise<number> => Number(await redis.client.get('inventory:{a}'));

  const fail = (error: unknown) => (): never => {
    throw error;
  };

  /**
   * The client sees in a later tick that its connection is gone; until then what it sends is lost
   * on the way.
   */
  const disconnect = async (): Promise<void> => {
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    const connection = app.get(RedisConnection);
    while (connection.isReady) await new Promise(setImmediate);
  };

  it('[CT-8] counts first, then runs the method with its this and arguments', async () => {
    await redis.client.set('inventory:{a}', 10);
    let during: number | undefined;
    const work = async (): Promise<void> => void (during = await stock());
    expect(await inventory.reserve('a', { quantity: 3, work })).toBe('reserved 3 of a');
    expect(during).toBe(7);
    expect(await stock()).toBe(7);
  });

  it('[CT-8] does not run the method when the counter is at a bound', async () => {
    await redis.client.set('inventory:{a}', 2);
    const reserving = inventory.reserve('a', { quantity: 3 });
    await expect(reserving).rejects.toThrow(CounterLimitError);
    await expect(reserving).rejects.toMatchObject({
      key: 'inventory:{a}',
      current: 2,
      requested: -3,
      bound: 0,
      outcome: 'not-applied',
    });
    expect(inventory.calls).toBe(0);
    expect(await stock()).toBe(2);
  });

  it('[CT-8] undoes exactly what it applied when the method fails, and passes on the same error', async () => {
    await redis.client.set('inventory:{a}', 10);
    const error = new Error('the method failed');
    const reserving = inventory.reserve('a', { quantity: 3, work: fail(error) });
    await expect(reserving).rejects.toBe(error);
    expect(await stock()).toBe(10);
  });

  it.each([[undefined], ['a string'], [null]])('[CT-8] passes on the thrown value %p', async (thrown) => {
    await redis.client.set('inventory:{a}', 10);
    const [settled] = await Promise.allSettled([inventory.reserve('a', { quantity: 3, work: fail(thrown) })]);
    expect(settled).toEqual({ status: 'rejected', reason: thrown });
    expect(await stock()).toBe(10);
  });

  it('[CT-8] undoes exactly under concurrent calls', async () => {
    await redis.client.set('inventory:{a}', 1_000);
    const calls = Array.from({ length: 200 }, (_, i) =>
      inventory.reserve('a', {
        quantity: (i % 7) + 1,
        work: async () => {
          await redis.client.ping();
          if (i % 3 === 0) throw new Error('this one fails');
        },
      }),
    );
    const settled = await Promise.allSettled(calls);
    const taken = settled.reduce(
      (sum, { status }, i) => (status === 'fulfilled' ? sum + (i % 7) + 1 : sum),
      0,
    );
    expect(settled.filter(({ status }) => status === 'fulfilled')).toHaveLength(133);
    expect(await stock()).toBe(1_000 - taken);
  });

  it('[CT-8] undoes only the amount that a clamp applied', async () => {
    await redis.client.set('inventory:{a}', 2);
    let during: number | undefined;
    const work = async (): Promise<never> => {
      during = await stock();
      throw new Error('the method failed');
    };
    await expect(inventory.reserveWhatThereIs('a', { quantity: 5, work })).rejects.toThrow(
      'the method failed',
    );
    expect(during).toBe(0);
    expect(await stock()).toBe(2);
    await redis.client.set('inventory:{a}', -4);
    await expect(inventory.reserveWhatThereIs('a', { quantity: 5, work })).rejects.toThrow(
      'the method failed',
    );
    expect(await stock()).toBe(-4);
  });

  it('[CT-8] undoes even beyond the bounds', async () => {
    await redis.client.set('n', 5);
    const undone = counters.run(
      'n',
      3,
      async () => {
        await counters.add('n', -8);
        throw new Error('the work failed');
      },
      { min: 0, max: 8 },
    );
    await expect(undone).rejects.toThrow('the work failed');
    expect(await counters.get('n')).toBe(-3);
  });

  describe('a counter that ended while the method ran', () => {
    const failingAfter = (meanwhile: () => Promise<unknown>) => async (): Promise<never> => {
      await meanwhile();
      throw new Error('the method failed');
    };

    it.each<[string, () => Promise<unknown>, number | null]>([
      ['reset', () => counters.reset('inventory:{a}'), null],
      [
        'reset and begun again',
        () => Promise.all([counters.reset('inventory:{a}'), counters.add('inventory:{a}', 50)]),
        50,
      ],
      [
        'reset and begun again by an add that can be undone',
        async () => {
          await Promise.all([counters.reset('inventory:{a}'), counters.addUndoable('inventory:{a}', 50)]);
        },
        50,
      ],
      [
        'reset and set again by another client',
        async () => {
          await counters.reset('inventory:{a}');
          await redis.client.set('inventory:{a}', 50);
        },
        50,
      ],
      ['deleted', () => redis.client.del('inventory:{a}'), null],
      [
        'deleted and begun again',
        async () => {
          await redis.client.del('inventory:{a}');
          await counters.add('inventory:{a}', 50);
        },
        50,
      ],
      [
        'deleted and begun again by an add that can be undone',
        async () => {
          await redis.client.del('inventory:{a}');
          await counters.addUndoable('inventory:{a}', 50);
        },
        50,
      ],
      [
        'expired and begun again',
        async () => {
          await redis.client.pexpire('inventory:{a}', 1);
          while ((await redis.client.exists('inventory:{a}')) === 1) await new Promise(setImmediate);
          await counters.add('inventory:{a}', 50);
        },
        50,
      ],
    ])('[CT-8] gets no undo: %s', async (_, meanwhile, value) => {
      await redis.client.set('inventory:{a}', 10);
      const reserving = inventory.reserve('a', { quantity: 3, work: failingAfter(meanwhile) });
      await expect(reserving).rejects.toThrow('the method failed');
      expect(await counters.get('inventory:{a}')).toBe(value);
    });

    it('[CT-8] tells two generations of a counter apart when both begin in one batch', async () => {
      const [first, , second] = await Promise.all([
        counters.addUndoable('n', 5),
        counters.reset('n'),
        counters.addUndoable('n', 7),
      ]);
      expect(await first.undo()).toBe(false);
      expect(await counters.get('n')).toBe(7);
      expect(await second.undo()).toBe(true);
      expect(await second.undo()).toBe(true);
      expect(await counters.get('n')).toBe(0);
    });
  });

  it('[CT-8] keeps the count on an error when configured so', async () => {
    await redis.client.set('inventory:{a}', 10);
    await expect(
      inventory.count('a', { quantity: 3, work: fail(new Error('the method failed')) }),
    ).rejects.toThrow('the method failed');
    expect(await stock()).toBe(7);
  });

  it('[CT-8] does not undo when the outcome of the method is unknown, and logs it', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    await redis.client.set('inventory:{a}', 10);
    const error = new OutcomeUnknownError('no answer');
    await expect(inventory.reserve('a', { quantity: 3, work: fail(error) })).rejects.toBe(error);
    expect(await stock()).toBe(7);
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn.mock.calls[0]![0]).toContain('OUTCOME_UNKNOWN');

    const nothingDone = new RedisUnavailableError('not sent');
    await expect(inventory.reserve('a', { quantity: 3, work: fail(nothingDone) })).rejects.toBe(nothingDone);
    expect(await stock()).toBe(7);
  });

  it('[CT-8] undoes once when the reply to the undo is lost', async () => {
    await redis.client.set('inventory:{a}', 10);
    const work = (): never => {
      proxy.loseReplies({ match: ({ name }) => name === 'EVALSHA' });
      throw new Error('the method failed');
    };
    await expect(inventory.reserve('a', { quantity: 3, work })).rejects.toThrow('the method failed');
    expect(await stock()).toBe(10);
  });

  it('[CT-8] passes on the error of the method when the undo fails, and logs the failed undo', async () => {
    const logged = jest.spyOn(Logger.prototype, 'error').mockImplementation();
    const error = new Error('the method failed');
    const running = counters.run(
      'n',
      3,
      async () => {
        await disconnect();
        throw error;
      },
      { timeoutMs: 200 },
    );
    await expect(running).rejects.toBe(error);
    expect(logged).toHaveBeenCalledTimes(1);
    expect(await redis.client.get('n')).toBe('3');
  });

  it('[CT-8] does not run the method when Redis is unavailable', async () => {
    await disconnect();
    const work = jest.fn<void, []>();
    await expect(counters.run('n', 1, work, { timeoutMs: 100 })).rejects.toThrow(RedisUnavailableError);
    expect(work).not.toHaveBeenCalled();
  });

  it('[CT-8] makes a synchronous method asynchronous, and counts with bigints', async () => {
    await expect(inventory.synchronous(false)).resolves.toBe('done');
    await expect(inventory.synchronous(true)).rejects.toThrow('synchronous');
    await expect(inventory.once()).resolves.toBeUndefined();
    expect(await counters.get('calls')).toBe(3);
  });

  it.each([
    [{ key: 'k', by: 1.5 }, '@AtomicCounter.by'],
    [{ key: 'k', by: '1' }, '@AtomicCounter.by'],
    [{ key: '' }, '@AtomicCounter.key'],
    [{}, '@AtomicCounter.key'],
    [{ key: 'k', min: 2, max: 1 }, '@AtomicCounter.min'],
    [{ key: 'k', max: Number.NaN }, '@AtomicCounter.max'],
    [{ key: 'k', onError: 'ignore' }, '@AtomicCounter.onError'],
    [{ key: 'k', ttl: 'sliding' }, '@AtomicCounter.ttlMs'],
    [{ key: 'k', limit: 5 }, '@AtomicCounter.limit'],
    [undefined, '@AtomicCounter'],
  ])('[CT-9] refuses the options %j where the decorator is applied', (options, argument) => {
    const decorate = (): unknown => AtomicCounter(options as never);
    expect(decorate).toThrow(InvalidArgumentError);
    expect(decorate).toThrow(expect.objectContaining({ argument }));
  });

  it('[CT-9] refuses invalid results of the callbacks before any command', async () => {
    // By then what the connection sends for itself has been sent.
    await counters.get('n');
    const counts = await countCommands(redis.client, async () => {
      await expect(inventory.reserve('a', { quantity: 1.5 })).rejects.toThrow(InvalidArgumentError);
      await expect(inventory.reserve('a', { quantity: Number.NaN })).rejects.toThrow(InvalidArgumentError);
      await expect(inventory.reserve('a', {} as never)).rejects.toThrow(InvalidArgumentError);
    });
    expect(counts).toEqual({});
    expect(inventory.calls).toBe(0);
  });

  it("[CT-9] does not compile with a callback whose parameters differ from the method's", () => {
    class WrongTypes {
      // @ts-expect-error -- the key's parameter is a number, the method's a string
      @AtomicCounter({ key: (id: number) => `n:${id}` })
      key(_id: string): void {}

      // @ts-expect-error -- by's second parameter is a string, the method's a number
      @AtomicCounter({ key: (id: string) => id, by: (_id: string, amount: string) => Number(amount) })
      by(_id: string, _amount: number): void {}
    }
    expect(WrongTypes).toBeDefined();
  });
});
