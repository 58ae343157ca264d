import type { Redis } from 'ioredis';
import { RedisUnavailableError } from '../atomic-redis.errors.js';
import { Deadline, sleep } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';

/** Time for which an unused connection is kept. */
const LINGER_MS = 5_000;

/**
 * Fetches payloads that are too large to travel with others: one at a time, on a connection of
 * their own, so that they delay no other call. On a Cluster each queue's slot has such a
 * connection.
 */
export class LargePayloads {
  private last: Promise<unknown> = Promise.resolve();
  private client: Redis | undefined;
  private waiting = 0;
  private linger: NodeJS.Timeout | undefined;
  private isClosed = false;

  constructor(
    private readonly connection: RedisConnection,
    private readonly slot: number,
  ) {}

  /**
   * @param timeoutMs from the moment that those before it have arrived
   * @returns undefined when there is no such job
   * @throws RedisUnavailableError when it does not arrive in time; ModuleClosedError
   */
  async fetch(jobs: string, id: string, size: number, timeoutMs: number): Promise<Buffer | undefined> {
    clearTimeout(this.linger);
    this.waiting++;
    const fetching = this.last.then(() => this.fetchNow(jobs, id, size, Deadline.in(timeoutMs), timeoutMs));
    this.last = fetching.catch(() => undefined);
    try {
      return await fetching;
    } finally {
      if (--this.waiting === 0 && !this.isClosed) {
        this.linger = setTimeout(() => this.drop(), LINGER_MS);
        this.linger.unref();
      }
    }
  }

  close(): void {
    this.isClosed = true;
    clearTimeout(this.linger);
    this.drop();
  }

  private async fetchNow(
    jobs: string,
    id: string,
    size: number,
    deadline: Deadline,
    timeoutMs: number,
  ): Promise<Buffer | undefined> {
    for (;;) {
      if (this.isClosed) throw this.connection.closedError();
      try {
        if (this.client?.status !== 'ready') {
          this.drop();
          const owner = await this.connection.ownerOf(this.slot, deadline);
          this.client = await this.connection.openDedicated(owner, 'payloads', deadline);
        }
        const late = (): Error => new Error('not in time');
        return (await deadline.race(this.client.hgetBuffer(jobs, id), late)) ?? undefined;
      } catch (cause) {
        // Replies still in flight end with the connection.
        this.drop();
        if (deadline.passed && !this.isClosed)
          throw new RedisUnavailableError(
            `A job's payload of ${size} bytes did not arrive within ${timeoutMs} ms (${(cause as Error).message}): allow more by the module's timeoutMs, or push less`,
            { cause },
          );
      }
      // The connection was lost, or another server has the slot.
      await this.connection.refreshTopology(deadline);
      await sleep(Math.min(50, deadline.remainingMs));
    }
  }

  private drop(): void {
    this.client?.disconnect();
    this.client = undefined;
  }
}
