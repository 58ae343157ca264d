import { createCipheriv, createDecipheriv, hash, randomBytes } from 'node:crypto';
import { Controller, Injectable, Post, type Type } from '@nestjs/common';
import {
  AtomicRedis,
  AtomicRedisModule,
  getAtomicRedisToken,
  Idempotent,
  IdempotencyMismatchError,
  IdempotencyResultUnavailableError,
  IdempotencyService,
  IdempotentRun,
  IllegalRunStateError,
  IllegalTransactionStateError,
  InjectRun,
  InvalidArgumentError,
  LeaseLostError,
  OutcomeUnknownError,
  StepInterruptedError,
  type ResultEncryption,
  type RunStep,
} from 'nestjs-atomic-redis';
import { retry } from 'rxjs';
import { startFaultProxy } from 'nestjs-atomic-redis/testing';
import { finishScript } from '../../lib/idempotency/steps/finish.script.js';
import { firstStepScript } from '../../lib/idempotency/steps/first-step.script.js';
import { nextStepScript } from '../../lib/idempotency/steps/next-step.script.js';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { stateOf } from '../support/idempotency-record.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate, on, useInstances } from './support.js';

const boom = (): never => {
  throw new Error('boom');
};

/** The error of a promise that rejects. */
const errorOf = async (promise: Promise<unknown>): Promise<unknown> =>
  await promise.then(
    () => undefined,
    (error: unknown) => error,
  );

class Charging {
  passes = 0;
  charges = 0;
  constructor(@InjectRun() protected readonly run: IdempotentRun) {}
}

/** Encrypts with the first secret, and decrypts with each. */
function encryptionWith(secrets: readonly string[]): ResultEncryption {
  const keyOf = (secret: string): Buffer => hash('sha256', secret, 'buffer');
  const opened = (bytes: Uint8Array, place: string, secret: string): Buffer => {
    const decipher = createDecipheriv('aes-256-gcm', keyOf(secret), bytes.subarray(0, 12), {
      authTagLength: 16,
    });
    decipher.setAAD(Buffer.from(place)).setAuthTag(bytes.subarray(12, 28));
    return Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]);
  };
  return {
    encrypt: (bytes, place) => {
      const nonce = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', keyOf(secrets[0]!), nonce);
      cipher.setAAD(Buffer.from(place));
      const text = Buffer.concat([cipher.update(bytes), cipher.final()]);
      return Buffer.concat([nonce, cipher.getAuthTag(), text]);
    },
    decrypt: (bytes, place) => {
      let failure: unknown;
      for (const secret of secrets) {
        try {
          return opened(bytes, place, secret);
        } catch (error) {
          failure = error;
        }
      }
      throw failure;
    },
  };
}

describe('the steps of a run', () => {
  const boot = useApp();
  const redis = useRedis();
  const instances = useInstances(() => ({ connection: redis.server.url, namespace: 'atomic:' }));
  const recordOf = async (): Promise<string> => (await redis.client.keys('atomic:idempotency:*'))[0]!;
  const keysOf = async (kind: string): Promise<string[]> => await redis.client.keys(`atomic:${kind}:*`);

  it('[ID-50] return their results to the attempt after a failure, and do not run again', async () => {
    const { idempotency } = await instances.start();
    const ran: string[] = [];
    const seen: object[] = [];
    const work =
      (last: () => string) =>
      async (run: IdempotentRun): Promise<unknown> => {
        seen.push({ attempt: run.attempt, resumed: run.resumed, key: run.keyFor('charge') });
        const stock = await run.step('reserve', () => (ran.push('reserve'), { left: 3 }));
        const charge = await run.step('charge', ({ key }) => (ran.push('charge'), key));
        return [stock, charge, last()];
      };
    await expect(idempotency.run('k', work(boom))).rejects.toThrow('boom');
    const result = await idempotency.run(
      'k',
      work(() => 'done'),
    );
    expect(ran).toEqual(['reserve', 'charge']);
    const [{ key }] = seen as [{ key: string }];
    expect(key).toMatch(/^[\w-]{43}$/);
    expect(result).toEqual([{ left: 3 }, key, 'done']);
    expect(seen).toEqual([
      { attempt: 1, resumed: false, key },
      { attempt: 2, resumed: true, key },
    ]);
    await expect(idempotency.run('k', boom)).resolves.toEqual(result);
    expect(await keysOf('steps')).toEqual([]);
    expect(await redis.client.zcard('atomic:held:index')).toBe(0);
  });

  it('[ID-50] have their own third-party key in each call and under each name', async () => {
    const { idempotency } = await instances.start();
    const keys = new Set<string>();
    for (const call of ['one', 'two'])
      await idempotency.run(call, (run) => {
        for (const name of ['a', 'b']) keys.add(run.keyFor(name)).add(run.keyFor(name));
      });
    expect(keys.size).toBe(4);
  });

  it('[ID-50] run again after a failure, even in the same attempt', async () => {
    const { idempotency } = await instances.start();
    let calls = 0;
    const flaky = (): number => (++calls === 1 ? boom() : calls);
    await expect(
      idempotency.run('l', async (run) => {
        await expect(run.step('x', flaky)).rejects.toThrow('boom');
        return await run.step('x', flaky);
      }),
    ).resolves.toBe(2);
  });

  it('[ID-50] return the decoded value in the first attempt too', async () => {
    const { idempotency } = await instances.start();
    const given = { a: undefined, b: 1 };
    await idempotency.run('k', async (run) => {
      const value = await run.step('x', () => given);
      expect(value).toStrictEqual({ b: 1 });
    });
  });

  it('[ID-50] run side by side, and a failure waits for the others, so that their results are kept', async () => {
    const { idempotency } = await instances.start();
    const { promise, resolve } = gate<string>();
    const slow = jest.fn((_step: RunStep) => promise);
    const failing = idempotency.run('k', (run) =>
      Promise.all([run.step('slow', slow), run.step('fails', boom), run.step('quick', () => 1)]),
    );
    const failed = errorOf(failing);
    await waitFor(
      'the steps',
      async () => (await redis.client.hlen((await keysOf('steps'))[0] ?? '-')) === 2,
    );
    expect(await stateOf(redis.client, await recordOf())).toBe('lasting');
    resolve('slow result');
    expect(await failed).toMatchObject({ message: 'boom' });
    await waitFor('the release', async () => (await stateOf(redis.client, await recordOf())) === 'failed');
    const resumed = await idempotency.run('k', (run) =>
      Promise.all([run.step('slow', slow), run.step('quick', boom)]),
    );
    expect(resumed).toEqual(['slow result', 1]);
    expect(slow).toHaveBeenCalledTimes(1);
  });

  it('[ID-50] are refused for another payload between attempts, and waiters continue one at a time', async () => {
    const { idempotency } = await instances.start();
    const failing = async (run: IdempotentRun): Promise<never> => {
      await run.step('x', () => 1);
      return boom();
    };
    await expect(idempotency.run('k', failing, { fingerprint: 'a', evidence: 'me' })).rejects.toThrow('boom');
    await expect(idempotency.run('k', boom, { fingerprint: 'b', evidence: 'me' })).rejects.toThrow(
      IdempotencyMismatchError,
    );
    await expect(idempotency.run('k', boom, { fingerprint: 'a' })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CALLER_MISMATCH',
    });
    let running = 0;
    let runs = 0;
    const work = async (run: IdempotentRun): Promise<string> => {
      expect(++running).toBe(1);
      await run.step(`of ${++runs}`, () => 1);
      running--;
      return runs < 3 ? boom() : `run ${runs}`;
    };
    const options = { fingerprint: 'a', evidence: 'me', onDuplicate: 'wait' } as const;
    const calls = await Promise.allSettled(
      Array.from({ length: 5 }, () => idempotency.run('k', work, options)),
    );
    const values = calls.map((one) => (one.status === 'fulfilled' ? one.value : 'failed'));
    expect(values.toSorted()).toEqual(['failed', 'failed', 'run 3', 'run 3', 'run 3']);
  });

  it('[ID-50] run again after the time to live of their result', async () => {
    const { idempotency } = await instances.start();
    const token = jest.fn(() => 'token');
    const price = jest.fn(() => 7);
    const work = async (run: IdempotentRun): Promise<never> => {
      await run.step('token', token, { ttlMs: 1 });
      await run.step('price', price, { ttlMs: 600_000 });
      return boom();
    };
    await expect(idempotency.run('k', work)).rejects.toThrow('boom');
    await waitFor('the next millisecond', async () => {
      await expect(idempotency.run('k', work)).rejects.toThrow('boom');
      return token.mock.calls.length > 1;
    });
    expect(price).toHaveBeenCalledTimes(1);
  });

  it('[ID-50] resume under a new name that declares the former one, with the same key', async () => {
    const { idempotency } = await instances.start();
    const keys: string[] = [];
    const first = idempotency.run('k', async (run) => {
      await run.step('charge', ({ key }) => void keys.push(key));
      await run.step('mail', ({ key }) => (keys.push(key), boom()));
    });
    await expect(first).rejects.toThrow('boom');
    await idempotency.run('k', async (run) => {
      await run.step('pay', boom, { aliases: ['charge'] });
      await run.step('send', ({ key }) => void keys.push(key), { aliases: ['mail', 'post'] });
      keys.push(run.keyFor('mail'));
    });
    expect(new Set(keys).size).toBe(2);
    expect(keys[1]).toBe(keys[2]);
    expect(keys[1]).toBe(keys[3]);
  });

  /** Posts to a controller under an interceptor that calls the handler again after an error. */
  const postRetried = async (controller: Type): Promise<unknown> => {
    const app = await boot.http(
      { connection: redis.server.url },
      {
        controllers: [controller],
        configure: (nest) => {
          nest.useGlobalInterceptors({ intercept: (_, next) => next.handle().pipe(retry(1)) });
        },
      },
    );
    const answer = await fetch(await app.getUrl(), { method: 'POST', headers: { 'idempotency-key': 'k' } });
    return await answer.json();
  };

  it('[ID-50] belong to the method’s last call when an interceptor calls it again', async () => {
    @Controller()
    class Orders extends Charging {
      @Post()
      @Idempotent()
      async create(): Promise<object> {
        const charge = await this.run.step('charge', () => ++this.charges);
        if (++this.passes === 1) throw new Error('again');
        return { charge, passes: this.passes };
      }
    }
    expect(await postRetried(Orders)).toEqual({ charge: 1, passes: 2 });
  });

  it('[ID-50] that an earlier call left running do not run again in the next one', async () => {
    const { promise, resolve } = gate();
    @Controller()
    class Orders extends Charging {
      @Post()
      @Idempotent()
      async create(): Promise<object> {
        const charging = this.run.step('charge', async () => {
          this.charges++;
          await promise;
          return this.charges;
        });
        if (++this.passes === 1) throw new Error('again');
        resolve();
        return { charge: await charging, passes: this.passes };
      }
    }
    expect(await postRetried(Orders)).toEqual({ charge: 1, passes: 2 });
  });

  it('[ID-51] are neither begun nor recorded by a run that has lost its key', async () => {
    const { idempotency } = await instances.start();
    const { promise, resolve } = gate();
    const begun = gate();
    const late = idempotency.run(
      'k',
      async (run) => {
        await run.step('first', () => 1);
        const step = run.step('slow', async () => {
          begun.resolve();
          await promise;
          return 'of the stale run';
        });
        const ended = await errorOf(step);
        return [ended, await errorOf(run.step('next', boom))];
      },
      { leaseMs: 6_000 },
    );
    await begun.promise;
    // Acts like the end of a stopped process's lease.
    await redis.client.del(await recordOf());
    await redis.client.del((await keysOf('steps'))[0]!);
    const current = gate();
    const resumed = idempotency.run('k', async (run) => {
      await run.step('slow', () => 'of the new run');
      await current.promise;
      return boom();
    });
    const failed = errorOf(resumed);
    await waitFor('the step', async () => (await keysOf('steps')).length > 0);
    resolve();
    const [ended, next] = (await late) as Error[];
    expect(ended).toBeInstanceOf(LeaseLostError);
    expect(ended).toMatchObject({ outcome: 'unknown' });
    expect(next).toBeInstanceOf(LeaseLostError);
    expect(next).toMatchObject({ outcome: 'not-applied' });
    current.resolve();
    expect(await failed).toMatchObject({ message: 'boom' });
    await waitFor('the release', async () => (await stateOf(redis.client, await recordOf())) === 'failed');
    expect(await idempotency.run('k', (run) => run.step('slow', boom))).toBe('of the new run');
  });

  it('[ID-52] take one round trip each, one more for the first of a resumed run; a run without steps takes two', async () => {
    const { idempotency } = await instances.start();
    const count = (work: () => Promise<unknown>) => countCommands(redis.client, work);
    const two = async (run: IdempotentRun): Promise<void> => {
      await run.step('a', () => 1);
      await run.step('b', () => 2);
    };
    await idempotency.run('warm-up', two);
    expect(await count(() => idempotency.run('plain', () => 1))).toEqual(
      expect.objectContaining({ evalsha: 2, get: 2, time: 1, set: 2 }),
    );
    expect(await count(() => idempotency.run('k', two))).toMatchObject({ evalsha: 4 });
    await errorOf(
      idempotency.run('l', async (run) => {
        await run.step('a', () => 1);
        boom();
      }),
    );
    const resumed = await count(() => idempotency.run('l', two));
    expect(resumed).toMatchObject({ evalsha: 3, evalsha_ro: 1 });
  });

  it('[ID-53] are refused before their callback inside a transaction, after the run, and under a used name', async () => {
    const { idempotency, module } = await instances.start();
    const { transactions } = module.get(AtomicRedis);
    const work = jest.fn();
    let left!: IdempotentRun;
    await idempotency.run('k', async (run) => {
      left = run;
      const inside = transactions.run(['key'], () => run.step('x', work));
      await expect(inside).rejects.toThrow(IllegalTransactionStateError);
      await run.step('once', () => 1);
      await expect(run.step('once', work)).rejects.toThrow(IllegalRunStateError);
      await expect(run.step('twice', work, { aliases: ['once'] })).rejects.toThrow(IllegalRunStateError);
      await run.step('new', () => 1, { aliases: ['old', 'older'] });
      await expect(run.step('older', work)).rejects.toThrow(IllegalRunStateError);
      await expect(run.step('other', work, { aliases: ['old'] })).rejects.toThrow(IllegalRunStateError);
      await expect(run.step('failed', boom, { aliases: ['fell'] })).rejects.toThrow('boom');
      await run.step('failed', () => 1, { aliases: ['fell'] });
      await transactions.run(['key'], () => undefined);
    });
    await expect(left.step('after', work)).rejects.toThrow(IllegalRunStateError);
    expect(work).not.toHaveBeenCalled();
  });

  it('[ID-53] are refused where the run has no record', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const { idempotency } = await instances.start({ connection: proxy.url });
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    const work = jest.fn();
    const result = idempotency.run(
      'k',
      async (run) => [run.attempt, run.resumed, await errorOf(run.step('x', work))],
      { onUnavailable: 'run', timeoutMs: 300 },
    );
    expect(await result).toEqual([1, false, expect.any(IllegalRunStateError)]);
    expect(work).not.toHaveBeenCalled();
    await proxy.stop();
  });

  it('[ID-53] are bounded in number', async () => {
    const { idempotency } = await instances.start({ idempotency: { maxSteps: 2 } });
    await idempotency.run('k', async (run) => {
      await Promise.all([run.step('a', () => 1), run.step('b', () => 1)]);
      await expect(run.step('c', boom)).rejects.toThrow(/maxSteps/);
    });
  });

  it.each<[string, unknown]>([
    ['is too large', 'x'.repeat(200)],
    ['JSON would not give back', new Map()],
  ])('[ID-53] whose result %s hold the key in a later attempt, and fail nothing before', async (_, value) => {
    const { idempotency } = await instances.start({ idempotency: { maxStepBytes: 100 } });
    const first = idempotency.run('k', async (run) => {
      expect(await run.step('x', () => value)).toBe(value);
      expect(await run.step('y', () => 1)).toBe(1);
      boom();
    });
    await expect(first).rejects.toThrow('boom');
    const second = idempotency.run('k', (run) => run.step('x', boom));
    await expect(second).rejects.toBeInstanceOf(StepInterruptedError);
    await expect(second).rejects.toMatchObject({ step: 'x', reason: 'not-kept', outcome: 'unknown' });
    const third = idempotency.run('k', boom);
    await expect(third).rejects.toThrow(IdempotencyResultUnavailableError);
    await expect(third).rejects.toMatchObject({ outcome: 'unknown', code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
  });

  it('[ID-53] are bounded in bytes even if they end at the same time', async () => {
    const { idempotency } = await instances.start({ idempotency: { maxStepBytes: 100 } });
    const both = (run: IdempotentRun, work: () => string) =>
      Promise.allSettled(['a', 'b'].map((name) => run.step(name, work)));
    const first = idempotency.run('k', async (run) => {
      await both(run, () => 'x'.repeat(60));
      boom();
    });
    await expect(first).rejects.toThrow('boom');
    const kept = await idempotency.run('k', (run) => both(run, boom));
    expect(kept.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(kept).toContainEqual(
      expect.objectContaining({ reason: expect.objectContaining({ reason: 'not-kept' }) }),
    );
  });

  it('[ID-53] hold the key if Redis has lost them', async () => {
    const { idempotency } = await instances.start();
    const failing = idempotency.run('k', async (run) => {
      await run.step('x', () => 1);
      boom();
    });
    await expect(failing).rejects.toThrow('boom');
    await redis.client.del((await keysOf('steps'))[0]!);
    await expect(idempotency.run('k', (run) => run.step('x', boom))).rejects.toMatchObject({
      code: 'STEP_INTERRUPTED',
      reason: 'steps-lost',
    });
    await expect(idempotency.run('k', boom)).rejects.toMatchObject({ code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
  });

  it.each<[string, string, () => Promise<unknown>]>([
    ['its steps', 'goes on', async () => await redis.client.del(await keysOf('steps'))],
    ['all keys', 'goes on', () => redis.client.flushall()],
    ['all keys', 'fails', () => redis.client.flushall()],
  ])('[ID-53] hold the key even if Redis lost %s, and their run %s', async (_, how, lose) => {
    const { idempotency } = await instances.start();
    const failing = idempotency.run('k', async (run) => {
      await run.step('charge', () => 1);
      await lose();
      if (how === 'goes on') await run.step('mail', () => 1);
      boom();
    });
    await expect(failing).rejects.toThrow('boom');
    await expect(idempotency.run('k', (run) => run.step('charge', boom))).rejects.toMatchObject({
      code: 'STEP_INTERRUPTED',
      reason: 'steps-lost',
    });
    await expect(idempotency.run('k', boom)).rejects.toMatchObject({ code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
  });

  it('[ID-53] hold the key after maxAttempts attempts', async () => {
    const { idempotency } = await instances.start({ idempotency: { maxAttempts: 2 } });
    const attempts: number[] = [];
    const failing = async (run: IdempotentRun): Promise<never> => {
      attempts.push(run.attempt);
      await run.step('x', () => 1);
      return boom();
    };
    for (let i = 0; i < 2; i++) await expect(idempotency.run('k', failing)).rejects.toThrow('boom');
    const held = { code: 'IDEMPOTENCY_OUTCOME_UNKNOWN', reason: 'attempts-exhausted' };
    await expect(idempotency.run('k', failing)).rejects.toMatchObject(held);
    await expect(idempotency.run('k', failing)).rejects.toMatchObject(held);
    expect(attempts).toEqual([1, 2]);
  });

  it('[ID-53] are encrypted, and bound to their record and name', async () => {
    const seal = (bytes: Uint8Array, place: string): Buffer =>
      Buffer.from(`${place}#${Buffer.from(bytes).toString('base64')}`);
    const encryption: ResultEncryption = {
      encrypt: seal,
      decrypt: (bytes, place) => {
        const [bound, text = ''] = bytes.toString().split('#');
        if (bound !== place) throw new Error('of another place');
        return Buffer.from(text, 'base64');
      },
    };
    const { idempotency } = await instances.start({ idempotency: { encryption } });
    const first = idempotency.run('k', async (run) => {
      await run.step('x', () => 'secret');
      await run.step('y', () => 'other');
      boom();
    });
    await expect(first).rejects.toThrow('boom');
    const [steps] = await keysOf('steps');
    const [x, y] = (await redis.client.hmget(steps!, 'x', 'y')) as [string, string];
    expect(x).not.toContain('secret');
    await redis.client.hset(steps!, 'x', y);
    await expect(idempotency.run('k', (run) => run.step('x', boom))).rejects.toMatchObject({
      code: 'IDEMPOTENCY_RECORD',
    });
    await redis.client.hset(steps!, 'x', x);
    await expect(idempotency.run('k', (run) => run.step('x', boom))).resolves.toBe('secret');
  });

  it('[ID-53] are read with an earlier encryption key, and without it keep their results and their key', async () => {
    const startWith = async (...secrets: string[]): Promise<IdempotencyService> =>
      (await instances.start({ idempotency: { encryption: encryptionWith(secrets) } })).idempotency;
    const old = await startWith('old');
    const renewed = await startWith('new', 'old');
    const wrong = await startWith('other');
    const { idempotency: plain } = await instances.start();
    const ran: string[] = [];
    const work =
      (last: () => unknown) =>
      async (run: IdempotentRun): Promise<unknown> => {
        const text = await run.step('text', () => (ran.push('text'), 'secret'));
        const both = await Promise.all(
          ['', undefined].map((value, i) => run.step(`${i}`, () => (ran.push(`${i}`), value))),
        );
        return [text, ...both, last()];
      };
    await expect(old.run('k', work(boom))).rejects.toThrow('boom');
    for (const other of [wrong, plain])
      await expect(
        other.run(
          'k',
          work(() => 1),
        ),
      ).rejects.toMatchObject({ code: 'IDEMPOTENCY_RECORD' });
    await expect(renewed.run('k', work(boom))).rejects.toThrow('boom');
    expect(
      await renewed.run(
        'k',
        work(() => 1),
      ),
    ).toEqual(['secret', '', undefined, 1]);
    expect(ran).toEqual(['text', '0', '1']);
  });

  it('[ID-51] report their work as done if their codec cannot read the result that it made', async () => {
    const { idempotency, module } = await instances.start();
    const { transactions } = module.get(AtomicRedis);
    const codec = { encode: () => 'bytes', decode: boom };
    const charge = jest.fn(() => 1);
    const commit = (): Promise<number> => transactions.run(['a'], charge, { completesStep: (one) => one });
    for (const work of [charge, commit]) {
      charge.mockClear();
      const attempt = () => idempotency.run(work.name, (run) => run.step('charge', work, { codec }));
      await expect(attempt()).rejects.toBeInstanceOf(OutcomeUnknownError);
      await expect(attempt()).rejects.toMatchObject({ code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
      const calls = charge.mock.calls.length;
      await expect(attempt()).rejects.toMatchObject({ code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
      expect(charge).toHaveBeenCalledTimes(calls);
    }
  });

  it('[ID-50] keep their results whatever their names, and inside each other', async () => {
    const { idempotency } = await instances.start();
    const names = [
      '__proto__',
      'constructor',
      'done|value|0|x',
      'a\0b',
      ' ',
      '\n',
      '\u{1f600}'.repeat(128),
      '\u00e9',
      'e\u0301',
    ];
    const work = (of: (name: string) => string, last: () => unknown) => (run: IdempotentRun) =>
      run.step('around', async () => {
        const results: string[] = [];
        for (const name of names)
          results.push(await run.step(name, () => of(name), { onInterrupted: 'hold' }));
        await expect(run.step('around', boom)).rejects.toThrow(IllegalRunStateError);
        last();
        return results;
      });
    await expect(
      idempotency.run(
        'k',
        work((name) => `of ${name}`, boom),
      ),
    ).rejects.toThrow('boom');
    const { steps } = (await idempotency.inspect('k'))!;
    expect(steps!.map(({ name }) => name).toSorted()).toEqual(names.toSorted());
    const resumed = idempotency.run(
      'k',
      work(boom, () => 1),
    );
    expect(await resumed).toEqual(names.map((name) => `of ${name}`));
  });

  it('[ID-51] report their work as done if Redis refuses to store the result', async () => {
    const { host, port } = redis.server;
    await redis.client.acl('SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all', '-hset');
    const { idempotency } = await instances.start({
      connection: { host, port, username: 'app', password: 'secret' },
    });
    const work = jest.fn(() => 'done');
    const failing = idempotency.run('k', (run) => run.step('x', work));
    await expect(failing).rejects.toThrow(OutcomeUnknownError);
    await expect(failing).rejects.toThrow(
      /The work of the step "x" is done, and its result could not be kept/,
    );
    expect(work).toHaveBeenCalledTimes(1);
    await expect(idempotency.run('k', work)).rejects.toMatchObject({ code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
  });

  it.each<[title: string, ...denied: string[]]>([
    ['GET', '-get'],
    ['MGET and GET', '-mget', '-get'],
  ])(
    '[ID-51] and their run are refused, and run nothing, for a user who may not use %s',
    async (_, ...denied) => {
      const { host, port } = redis.server;
      await redis.client.acl('SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all', ...denied);
      const { idempotency } = await instances.start({
        connection: { host, port, username: 'app', password: 'secret' },
      });
      const work = jest.fn(() => 'done');
      const refused = { code: 'REDIS_REPLY' };
      await expect(idempotency.run('k', work)).rejects.toMatchObject(refused);
      await expect(idempotency.run('k', (run) => run.step('x', work))).rejects.toMatchObject(refused);
      expect(work).not.toHaveBeenCalled();
      expect(await redis.client.exists('k')).toBe(0);
    },
  );

  it('[ID-51] that end after their run report their work as done', async () => {
    const { idempotency } = await instances.start();
    const { promise, resolve } = gate<string>();
    let late: Promise<string> | undefined;
    await idempotency.run('k', async (run) => {
      await run.step('first', () => 1);
      late = run.step('late', () => promise);
    });
    resolve('done');
    const error = (await errorOf(late!)) as Error;
    expect(error).toBeInstanceOf(OutcomeUnknownError);
    expect(error.cause).toBeInstanceOf(IllegalRunStateError);
  });

  it('[ID-51] take effect once when a reply is lost', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    const { idempotency } = await instances.start({ connection: proxy.url });
    await idempotency.run('warm-up', async (run) => [
      await run.step('x', () => 1),
      await run.step('y', () => 1),
    ]);
    const scripts = [firstStepScript, nextStepScript, finishScript];
    const lost = scripts.map((script) => proxy.loseReplies(on(script)));
    const work = jest.fn(() => 'once');
    const options = { timeoutMs: 10_000 };
    const steps = async (run: IdempotentRun): Promise<string> =>
      (await run.step('x', work)) + (await run.step('y', work));
    await expect(idempotency.run('k', steps, options)).resolves.toBe('onceonce');
    expect(lost.map(({ count }) => count)).toEqual([1, 1, 1]);
    expect(work).toHaveBeenCalledTimes(2);
    await waitFor('the end', async () => (await keysOf('steps')).length === 0);
    await expect(idempotency.run('k', boom, options)).resolves.toBe('onceonce');
    await proxy.stop();
  });

  it.each<[string, (run: IdempotentRun) => Promise<unknown>]>([
    ['name', (run) => run.step('', () => 1)],
    ['name', (run) => run.step(undefined as never, () => 1)],
    ['name', (run) => run.step('\ud800', () => 1)],
    ['name', (run) => Promise.resolve().then(() => run.keyFor('\ud800'))],
    ['name.length', (run) => run.step('x'.repeat(257), () => 1)],
    ['work', (run) => run.step('x', undefined as never)],
    ['options.onInterrupted', (run) => run.step('x', () => 1, { onInterrupted: 'retry' as never })],
    ['options.ttlMs', (run) => run.step('x', () => 1, { ttlMs: 0 })],
    ['options.aliases[0]', (run) => run.step('x', () => 1, { aliases: [''] })],
    ['options.alias', (run) => run.step('x', () => 1, { alias: 'y' } as never)],
  ])('[ARG-1] refuse a wrong %s', async (argument, call) => {
    const { idempotency } = await instances.start();
    const error = await idempotency.run('k', (run) =>
      errorOf(call(run)).then((one) => one instanceof InvalidArgumentError && one.argument),
    );
    expect(error).toBe(argument);
  });
});

@Injectable()
class Payments {
  constructor(@InjectRun() readonly run: IdempotentRun) {}

  @Idempotent({ key: (id: string) => id, operation: 'payments.pay' })
  async pay(id: string): Promise<object> {
    await Promise.resolve();
    return await this.deep(id);
  }

  private async deep(id: string): Promise<object> {
    const { attempt, resumed, signal } = this.run;
    const charge = await this.run.step('charge', ({ key }) => key === this.run.keyFor('charge'));
    return { id, attempt, resumed, isAborted: signal.aborted, charge };
  }
}

describe('@InjectRun()', () => {
  const boot = useApp();
  const redis = useRedis();

  it('[ID-59] is the run around the calling code, separate for each call', async () => {
    const module = await boot(
      { connection: redis.server.url },
      {
        imports: [
          AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'other:', name: 'other' }),
        ],
        providers: [Payments],
      },
    );

    const payments = module.get(Payments);
    const plain = { attempt: 1, resumed: false, isAborted: false, charge: true };
    const results = await Promise.all(['a', 'b'].map((id) => payments.pay(id)));
    expect(results).toEqual([
      { id: 'a', ...plain },
      { id: 'b', ...plain },
    ]);
    expect(() => payments.run.attempt).toThrow(IllegalRunStateError);
    await expect(payments.run.step('x', () => 1)).rejects.toThrow(IllegalRunStateError);
    const { idempotency } = module.get<AtomicRedis>(getAtomicRedisToken());
    const keys = await idempotency.run('k', (run) => [run.keyFor('x'), payments.run.keyFor('x')]);
    expect(keys[0]).toBe(keys[1]);
    const other = module.get<AtomicRedis>(getAtomicRedisToken('other'));
    await expect(other.idempotency.run('k', () => payments.run.attempt)).rejects.toThrow(
      IllegalRunStateError,
    );
  });
});
