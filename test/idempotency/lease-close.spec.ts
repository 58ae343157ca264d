import { setTimeout as sleep } from 'node:timers/promises';
import type { TestingModule } from '@nestjs/testing';
import { IdempotencyInFlightError, IdempotencyService, ModuleClosedError } from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { stateOf } from '../support/idempotency-record.js';

const LEASE_MS = 3_000;

describe('closing the module while runs hold their keys', () => {
  const boot = useApp();
  const redis = useRedis();
  const apps: TestingModule[] = [];

  const start = async (): Promise<IdempotencyService> => {
    const app = await boot({ connection: redis.server.url, shutdownTimeoutMs: 100 });
    apps.push(app);
    return app.get(IdempotencyService);
  };

  afterEach(() => Promise.all(apps.splice(0).map((app) => app.close())));

  it('[ID-8] aborts their signals, stops renewing and releases nothing: the next call runs when the lease has ended', async () => {
    const [closing, other] = [await start(), await start()];
    let signal: AbortSignal | undefined;
    let finish = (): void => undefined;
    const unsettled = closing.run(
      'k',
      async (run) => {
        signal = run.signal;
        await new Promise<void>((resolve) => (finish = resolve));
        throw new Error('after the close');
      },
      { leaseMs: LEASE_MS },
    );
    await waitFor('the run', () => signal);
    await sleep(LEASE_MS * 1.5);
    closing.close();
    expect(signal!.reason).toBeInstanceOf(ModuleClosedError);
    const [record] = await redis.client.keys('atomic:idempotency:*');
    expect(await stateOf(redis.client, record!)).toBe('running');
    await expect(other.run('k', () => 'second')).rejects.toThrow(IdempotencyInFlightError);
    const counts = await countCommands(redis.client, () => sleep(LEASE_MS + 50));
    expect(counts).toEqual({});
    await expect(other.run('k', () => 'second')).resolves.toBe('second');
    finish();
    await expect(unsettled).rejects.toThrow('after the close');
    await expect(other.run('k', () => 'third')).resolves.toBe('second');
  });

  it('[ID-8] aborts a run at once that begins after the close, and a second close changes nothing', async () => {
    const closed = await start();
    closed.close();
    closed.close();
    const signal = await closed.run('k', (run) => [run.signal.aborted]);
    expect(signal).toEqual([true]);
  });
});
