import { setTimeout as sleep } from 'node:timers/promises';
import { Test, type TestingModule } from '@nestjs/testing';
import {
  AtomicRedisModule,
  IdempotencyInFlightError,
  IdempotencyService,
  ModuleClosedError,
} from 'nestjs-atomic-redis';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { stateOf } from '../support/idempotency-record.js';

const LEASE_MS = 1_500;

describe('closing while runs hold their keys', () => {
  const redis = useRedis();
  const apps: TestingModule[] = [];

  const start = async (): Promise<IdempotencyService> => {
    const app = await Test.createTestingModule({
      imports: [
        AtomicRedisModule.forRoot({
          connection: redis.server.url,
          namespace: 'atomic:',
          shutdownTimeoutMs: 100,
        }),
      ],
    }).compile();
    app.useLogger(false);
    await app.init();
    apps.push(app);
    return app.get(IdempotencyService);
  };

  afterEach(async () => {
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });

  it('[ID-8] aborts their signals, renews no more and releases nothing: the next call runs when the lease has ended', async () => {
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

  it('[ID-8] tells a run that begins after the close at once, and a second close changes nothing', async () => {
    const closed = await start();
    closed.close();
    closed.close();
    const signal = await closed.run('k', (run) => [run.signal.aborted]);
    expect(signal).toEqual([true]);
  });
});
