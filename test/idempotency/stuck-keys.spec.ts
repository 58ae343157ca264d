import { Controller, Module, Post, type INestApplication } from '@nestjs/common';
import { RouterModule } from '@nestjs/core';
import {
  AtomicRedisEvents,
  Idempotent,
  IdempotencyInFlightError,
  IdempotencyService,
  InvalidArgumentError,
  type KeyReference,
} from 'nestjs-atomic-redis';
import { useApp, withPrefixAndVersions } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate } from './support.js';

let work: () => unknown;

@Controller({ path: ['accounts', 'konten'], version: '1' })
class AccountsController {
  @Post(':id/deposits')
  @Idempotent({ onError: 'hold' })
  deposit() {
    return work();
  }

  @Post(':id/withdrawals')
  @Idempotent({ operation: 'accounts.withdraw', onError: 'hold' })
  withdraw() {
    return work();
  }
}

@Module({ controllers: [AccountsController] })
class BankModule {}

describe('a stuck key can be found and freed', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: INestApplication;
  let idempotency: IdempotencyService;

  beforeAll(async () => {
    app = await boot.http(
      { connection: redis.server.url, namespace: 'bank:' },
      {
        imports: [BankModule, RouterModule.register([{ path: 'bank', module: BankModule }])],
        configure: withPrefixAndVersions,
      },
    );
    idempotency = app.get(IdempotencyService);
  });

  beforeEach(() => {
    work = () => {
      throw new Error('the bank did not answer');
    };
  });

  const send = async (path: string, key: string): Promise<{ status: number; record?: string }> => {
    const response = await fetch(`${await app.getUrl()}${path}`, {
      method: 'POST',
      headers: { 'idempotency-key': key },
    });
    return { ...((await response.json()) as { record?: string }), status: response.status };
  };

  it('[ID-16] by the record that the problem and the event show', async () => {
    const records: string[] = [];
    const unsubscribe = app.get(AtomicRedisEvents).subscribe((event) => {
      if (event.type === 'idempotency.run') records.push(event.record);
    });
    await send('/api/v1/bank/accounts/1/deposits', 'by-record');
    unsubscribe();
    const problem = await send('/api/v1/bank/accounts/1/deposits', 'by-record');
    expect(problem).toMatchObject({ status: 503, record: records[0] });
    const key = { record: problem.record! };
    expect(await idempotency.inspect(key)).toMatchObject({ state: 'held', record: key.record });
    expect(await idempotency.forget(key)).toBe(true);
    expect(await idempotency.inspect(key)).toBeNull();
    work = () => ({ done: true });
    expect((await send('/api/v1/bank/accounts/1/deposits', 'by-record')).status).toBe(201);
  });

  it.each([
    ['the requested path', '/api/v1/bank/accounts/1/deposits'],
    ['another path of the controller', '/api/v1/bank/konten/1/deposits'],
    ['a path with a query', '/api/v1/bank/accounts/1/deposits?trace=1'],
  ])('[ID-16] by %s', async (title, path) => {
    const key = `"by ${title.length}"`.replace(' ', '-');
    await send(path, key);
    const reference = { method: 'post', path: path.replace('konten', 'accounts'), key };
    expect(await idempotency.inspect(reference)).toMatchObject({ state: 'held' });
    expect(await idempotency.forget(reference)).toBe(true);
  });

  it('[ID-16] for a route whose operation has its own name, and for a named caller', async () => {
    await send('/api/v1/bank/accounts/1/withdrawals', 'named');
    const reference = { method: 'POST', path: '/bank/accounts/:id/withdrawals', key: 'named' };
    expect(await idempotency.inspect({ ...reference, caller: { headers: {}, user: { id: 7 } } })).toBeNull();
    expect(await idempotency.inspect({ ...reference, caller: 'anonymous' })).toMatchObject({ state: 'held' });
    expect(await idempotency.forget(reference)).toBe(true);
  });

  it('[ID-16] only after its call has ended', async () => {
    const open = gate();
    work = () => open.promise.then(() => ({ done: true }));
    const running = send('/api/v1/bank/accounts/1/deposits', 'running');
    const reference = { method: 'POST', path: '/bank/accounts/1/deposits', key: 'running' };
    await waitFor('the run', async () => (await idempotency.inspect(reference)) !== null);
    await expect(idempotency.forget(reference)).rejects.toThrow(IdempotencyInFlightError);
    open.resolve();
    expect((await running).status).toBe(201);
    expect(await idempotency.inspect(reference)).toMatchObject({ state: 'completed' });
  });

  it.each<[string, unknown]>([
    ['key.path', { method: 'POST', path: '/nowhere', key: 'k' }],
    ['key.path', { method: 'DELETE', path: '/bank/accounts/1/deposits', key: 'k' }],
    ['key.key', { method: 'POST', path: '/bank/accounts/1/deposits' }],
    ['key.record', { record: 'other:idempotency:x' }],
    ['key.record', { record: 'bank:idempotency:' }],
    ['key.record', { record: 'bank:counter:x' }],
    ['key.caller', { method: 'POST', path: '/bank/accounts/1/deposits', key: 'k', caller: {} }],
    ['key', 7],
  ])('[ID-16] refuses a wrong %s', async (argument, key) => {
    for (const call of [idempotency.inspect(key as KeyReference), idempotency.forget(key as KeyReference)]) {
      await expect(call).rejects.toThrow(InvalidArgumentError);
      await expect(call).rejects.toMatchObject({ argument });
    }
  });
});
