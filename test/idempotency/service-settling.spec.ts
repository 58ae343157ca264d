import { BadRequestException, HttpException, Injectable, Logger } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import {
  Idempotent,
  IdempotencyResultUnavailableError,
  IdempotencyService,
  OutcomeUnknownError,
  type IdempotencyOptions,
} from 'nestjs-atomic-redis';
import { concat, defer, EMPTY, of, throwError, timer, map, type Observable } from 'rxjs';
import { ReplayedError } from '../../lib/idempotency/idempotency.errors.js';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { stateOf } from '../support/idempotency-record.js';

class Declined extends Error {
  override name = 'Declined';
}

/** An exception of an application that cannot even be asked for its status. */
class Unaskable extends HttpException {
  override getStatus(): number {
    throw new Error('no status');
  }
}

@Injectable()
class Feed {
  reads = 0;

  @Idempotent({ operation: 'feed.read', key: (id: string) => id })
  read(id: string): Observable<unknown> {
    return defer(() => of('first', { id, read: ++this.reads }));
  }
}

describe('the settling of an idempotent run', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: TestingModule;
  let idempotency: IdempotencyService;
  let logged: jest.SpyInstance;

  beforeAll(async () => {
    app = await boot({ connection: redis.server.url }, { providers: [Feed] });
    idempotency = app.get(IdempotencyService);
  });

  beforeEach(() => {
    logged = jest.spyOn(Logger.prototype, 'error').mockImplementation();
  });

  afterEach(() => logged.mockRestore());

  const throwing = async (what: unknown, options?: IdempotencyOptions): Promise<unknown> => {
    const fails = async (): Promise<never> => {
      throw what;
    };
    const thrown: unknown = await idempotency.run('k', fails, options).catch((caught: unknown) => caught);
    expect(thrown).toBe(what);
    return await idempotency.run('k', () => 'ran again');
  };
  const stateOfRecord = async (): Promise<string | undefined> => {
    const [record] = await redis.client.keys('atomic:idempotency:*');
    return record === undefined ? undefined : await stateOf(redis.client, record);
  };
  const onErrorThrows = (): never => {
    throw new Error('onError itself');
  };

  it.each<[string, Error, string]>([
    ['gives the key back', new Error('mine'), 'ran again'],
    ['replays a 4xx', new BadRequestException('mine'), 'mine'],
    ['holds an unknown outcome', new OutcomeUnknownError('mine'), 'effects are unknown'],
  ])(
    '[ID-3] with an onError that throws, %s as without one, and the error is logged',
    async (_, error, then) => {
      const retry = throwing(error, { onError: onErrorThrows }).catch((caught: Error) => caught.message);
      await expect(retry).resolves.toContain(then);
      expect(logged).toHaveBeenCalledWith(
        'onError threw',
        expect.objectContaining({ message: 'onError itself' }),
      );
    },
  );

  it.each([undefined, 'retry', Promise.resolve('hold')])(
    '[ID-3] falls back to the default for an onError that returns %p',
    async (answer) => {
      await expect(throwing(new Error('mine'), { onError: () => answer as never })).resolves.toBe(
        'ran again',
      );
      expect(logged).toHaveBeenCalledWith(expect.stringContaining('onError must return'));
    },
  );

  it.each<[string, () => unknown]>([
    ['a body that JSON cannot hold', () => new BadRequestException({ id: 1n })],
    [
      'a body that throws when it is read',
      () =>
        new BadRequestException({
          get id(): string {
            throw new Error('getter');
          },
        }),
    ],
  ])('[ID-3] stores no 4xx with %s, and does not run again', async (_, make) => {
    await expect(throwing(make())).rejects.toMatchObject({
      constructor: IdempotencyResultUnavailableError,
      reason: 'not-serializable',
    });
    expect(await stateOfRecord()).toBe('done');
  });

  it('[ID-3] replays a 4xx error that has no response', async () => {
    const retry = throwing(new HttpException(undefined as never, 404));
    await expect(retry).rejects.toBeInstanceOf(HttpException);
    await expect(retry).rejects.toMatchObject({ status: 404 });
  });

  it('[ID-3] holds the key after an exception whose status cannot be read', async () => {
    await expect(throwing(new Unaskable('mine', 400))).rejects.toMatchObject({ reason: 'outcome-unknown' });
  });

  it.each<[string, () => object]>([
    [
      'is nested too deep',
      () => Array.from({ length: 50_000 }).reduce<object>((deep) => ({ deep }), { bottom: true }),
    ],
    [
      'throws when it is read',
      () => ({
        get id(): string {
          throw new Error('getter');
        },
      }),
    ],
    [
      'is a revoked proxy',
      () => {
        const { proxy, revoke } = Proxy.revocable({}, {});
        revoke();
        return [proxy];
      },
    ],
  ])('[ID-3] returns a result that %s, and does not run again', async (_, make) => {
    const result = make();
    expect((await idempotency.run('k', () => result)) === result).toBe(true);
    expect(await stateOfRecord()).toBe('done');
    await expect(idempotency.run('k', () => 'again')).rejects.toThrow(IdempotencyResultUnavailableError);
  });

  it('[ID-3] replays a plain Error by name and message under onError "replay"', async () => {
    const error = new Declined('the card was declined', { cause: 'kept from others' });
    const again = throwing(error, { onError: 'replay' });
    await expect(again).rejects.toThrow(ReplayedError);
    await expect(again).rejects.toMatchObject({ name: 'Declined', message: 'the card was declined' });
    await expect(again).rejects.not.toHaveProperty('cause');
    await expect(again).rejects.toBeInstanceOf(Error);
  });

  it.each([undefined, null, '', 'text', 0, { code: 7, nested: [1] }])(
    '[ID-3] replays a thrown %j under onError "replay"',
    async (thrown) => {
      const again: unknown = await throwing(thrown, { onError: () => 'replay' }).then(
        () => 'did not throw',
        (caught: unknown) => ({ caught }),
      );
      expect(again).toEqual({ caught: thrown });
    },
  );

  it('[ID-3] does not run again after a thrown value that cannot be stored under onError "replay"', async () => {
    await expect(throwing(new Map(), { onError: 'replay' })).rejects.toMatchObject({
      reason: 'not-serializable',
    });
    await redis.client.flushall();
    const large = new Error('x'.repeat(2_000_000));
    await expect(throwing(large, { onError: 'replay' })).rejects.toMatchObject({ reason: 'too-large' });
  });

  it('[ID-1] uses the last value of an Observable as the result, and subscribes once', async () => {
    const feed = app.get(Feed);
    await expect(feed.read('a')).resolves.toEqual({ id: 'a', read: 1 });
    await expect(feed.read('a')).resolves.toEqual({ id: 'a', read: 1 });
    expect(feed.reads).toBe(1);
    const later = timer(5).pipe(map(() => 'later'));
    // The type of the result is that of the values.
    const value: string = await idempotency.run('k', () => concat(of('now'), later));
    expect(value).toBe('later');
    await expect(idempotency.run('k', () => 'again')).resolves.toBe('later');
  });

  it('[ID-3] treats an Observable that ends empty or fails like a promise that does', async () => {
    await expect(idempotency.run('empty', async () => EMPTY)).resolves.toBeUndefined();
    await expect(idempotency.run('empty', () => 'again')).resolves.toBeUndefined();
    const error = new Error('mine');
    await expect(idempotency.run('fails', () => throwError(() => error))).rejects.toBe(error);
    await expect(idempotency.run('fails', () => 'again')).resolves.toBe('again');
  });
});
