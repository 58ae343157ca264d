import { Inject, Injectable, type OnModuleDestroy } from '@nestjs/common';
import { Redis } from 'ioredis';
import { FakeProvider } from '../payment-provider/fake-provider.js';
import { NAMESPACE } from '../redis/keys.js';
import { FaultyRedis } from './faulty-redis.js';
import type { RunDto } from './lab.dto.js';
import { RunInProgressException } from './lab.errors.js';
import { run, type RunEvent } from './run.js';
import { Workers } from './workers.js';

/** Injection token for the address of the shop's embedded Redis. */
export const EMBEDDED_REDIS_URL = Symbol('EMBEDDED_REDIS_URL');

/** Apart from the shop's own data. */
const DATABASE = 1;

interface Equipment {
  redis: Redis;
  faulty: FaultyRedis;
  provider: FakeProvider;
  workers: Workers;
}

/**
 * One run at a time, on processes, a fault proxy and a database that serve nothing else. They begin
 * when a client opens the lab.
 */
@Injectable()
export class LabService implements OnModuleDestroy {
  #equipment: Promise<Equipment> | undefined;
  #current: { gone: AbortSignal; over: Promise<void> } | undefined;
  #runs = 0;

  constructor(@Inject(EMBEDDED_REDIS_URL) private readonly redisUrl: string) {}

  /** So that the first run need not wait for it. A failure is the run's to tell. */
  warmUp(): void {
    this.equipment()
      .then(({ workers }) => workers.ready())
      .catch(() => {});
  }

  /** @param gone aborted when its client has gone, which ends the run */
  async *run(options: RunDto, gone: AbortSignal): AsyncGenerator<RunEvent> {
    if (this.#current?.gone.aborted) await this.#current.over;
    if (this.#current) throw new RunInProgressException();
    let end!: () => void;
    this.#current = { gone, over: new Promise((resolve) => (end = resolve)) };
    try {
      yield* this.runOn(await this.equipment(), options, gone);
    } finally {
      this.#current = undefined;
      end();
      this.warmUp();
    }
  }

  private async *runOn(
    { redis, faulty, provider, workers }: Equipment,
    options: RunDto,
    gone: AbortSignal,
  ): AsyncGenerator<RunEvent> {
    let isOver = false;
    try {
      const serving = await workers.ready();
      yield* run(options, { number: ++this.#runs, redis, faulty, provider, workers: serving }, gone);
      isOver = true;
    } finally {
      // Requests of an aborted run may still be at work in the processes.
      if (!isOver) workers.killAll();
      await faulty.reset();
      await removeOwnKeys(redis);
    }
  }

  async onModuleDestroy(): Promise<void> {
    if (!this.#equipment) return;
    const { redis, faulty, provider, workers } = await this.#equipment;
    workers.close();
    provider.stop();
    redis.disconnect();
    faulty.stop();
  }

  private equipment(): Promise<Equipment> {
    return (this.#equipment ??= (async () => {
      const faulty = await FaultyRedis.start(this.redisUrl);
      const redis = new Redis(this.redisUrl, { db: DATABASE });
      // Not behind the proxy: what the shop's connections suffer is not the provider's.
      const provider = await FakeProvider.start(redis);
      return { redis, faulty, provider, workers: new Workers(`${faulty.url}/${DATABASE}`, provider.url) };
    })());
  }
}

/**
 * The keys of the library have a time to live, and open connections rely on them: flushing the
 * database would take evidence away.
 */
async function removeOwnKeys(redis: Redis): Promise<void> {
  for await (const keys of redis.scanStream({ count: 1_000 }) as AsyncIterable<string[]>) {
    const own = keys.filter((key) => !key.startsWith(NAMESPACE));
    if (own.length > 0) await redis.unlink(own);
  }
}
