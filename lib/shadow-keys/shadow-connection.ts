import type { Redis } from 'ioredis';
import { RedisUnavailableError } from '../atomic-redis.errors.js';
import { Deadline, sleep, untilAborted } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { finalRefusal, isConnectionLoss, toReplyError } from '../connection/reply-errors.js';
import type { OperationRunner } from '../operations/operation-runner.js';
import { discard } from './shadow-key.operations.js';
import { ShadowLostError } from './shadow-key.errors.js';
import { SIZE_COMMAND, type Shadow } from './shadow-type.js';

export interface ShadowConnectionSettings {
  /** The live keys to replace. */
  readonly liveKeys: readonly string[];
  /** The time to live of the shadows while they are built, in milliseconds. */
  readonly ttlMs: number;
  /** The time for connecting, and for the reply to each chunk, in milliseconds. */
  readonly timeoutMs: number;
  /** Called after each confirmed chunk with the amount written in all. */
  readonly onProgress: (written: number) => void;
}

export type ShadowCommand = readonly [name: string, args: readonly (string | Buffer)[]];

/** The most chunks on their way at the same time: Redis works on one while others travel. */
const WINDOW = 4;

/** The time for removing a shadow, in milliseconds. */
const DISCARD_TIMEOUT_MS = 1_000;

/**
 * Writes the shadows of one call, in chunks over a dedicated connection, and never sends a chunk
 * twice. A chunk is one MULTI that begins by renewing the shadow's time to live. If there is none
 * to renew, the earlier chunks have expired, and this one would make a part look like the whole.
 */
export class ShadowConnection {
  private readonly stop = new AbortController();
  private readonly begun: Shadow[] = [];
  private client: Redis | undefined;
  private refreshing: NodeJS.Timeout | undefined;
  private isClosed = false;
  private inFlight = 0;
  private confirmed = 0;
  private waiting: (() => void)[] = [];

  constructor(
    private readonly connection: RedisConnection,
    private readonly operations: OperationRunner,
    private readonly settings: ShadowConnectionSettings,
  ) {}

  /** Aborts when the build cannot continue, with its caller's error. */
  get signal(): AbortSignal {
    return this.stop.signal;
  }

  /** The confirmed amount of all shadows so far. */
  get written(): number {
    return this.confirmed;
  }

  /** Makes the build fail. Only the first error counts. */
  fail(error: unknown): void {
    if (this.isClosed || this.signal.aborted) return;
    clearInterval(this.refreshing);
    this.stop.abort(error);
    this.wake();
  }

  /** @throws RedisUnavailableError */
  async open(slot: number): Promise<void> {
    const opening = this.connect(slot, Deadline.in(this.settings.timeoutMs));
    try {
      this.client = await untilAborted(opening, this.signal);
    } catch (error) {
      opening.then(
        (client) => client.disconnect(),
        () => undefined,
      );
      throw error;
    }
    this.client.once('end', () => this.fail(this.lost('its connection was closed')));
    this.refreshing = setInterval(() => void this.refresh(), this.settings.ttlMs / 3);
  }

  /** Sends a chunk without waiting for its reply. If the chunk fails, so does the build. */
  send(shadow: Shadow, commands: readonly ShadowCommand[], written: number): void {
    this.track(async () => {
      await this.exchange(shadow, commands);
      this.confirmed += written;
      this.settings.onProgress(this.confirmed);
    });
  }

  /** Reads the size of the shadow, behind all its chunks. */
  measure(shadow: Shadow): void {
    this.track(async () => {
      shadow.size = Number(await this.answer(this.client!.call(SIZE_COMMAND[shadow.type!], shadow.key)));
    });
  }

  /**
   * Returns undefined if another chunk may be sent now; otherwise a promise that resolves when one
   * may.
   */
  room(): Promise<void> | undefined {
    return this.inFlight < WINDOW && !this.signal.aborted ? undefined : this.untilAtMost(WINDOW - 1);
  }

  /** Resolves when every chunk was confirmed. Rejects with the error of the build. */
  settled(): Promise<void> {
    return this.untilAtMost(0);
  }

  /** Notes that the shadows were swapped in, so that none is removed. */
  handOver(): void {
    this.begun.length = 0;
  }

  /** Removes the shadows if that is possible in a moment. Otherwise they expire. */
  async discard(): Promise<void> {
    const keys = this.begun.map(({ key }) => key);
    if (keys.length === 0) return;
    try {
      // Sent behind the chunks that may still be on their way.
      await Deadline.in(DISCARD_TIMEOUT_MS).race(this.client!.unlink(keys), () => new Error('not in time'));
    } catch {
      this.close();
      await this.operations.part(discard, keys, { timeoutMs: DISCARD_TIMEOUT_MS }).catch(() => undefined);
    }
  }

  /** Ends the renewal. */
  close(): void {
    this.isClosed = true;
    clearInterval(this.refreshing);
    this.client?.disconnect();
  }

  private async connect(slot: number, deadline: Deadline): Promise<Redis> {
    for (;;) {
      const owner = await this.connection.ownerOf(slot, deadline);
      this.signal.throwIfAborted();
      try {
        return await this.connection.openDedicated(owner, 'shadow', deadline);
      } catch (error) {
        if (deadline.passed || !(error instanceof RedisUnavailableError)) throw error;
      }
      // Another server may have the slot by now.
      await this.connection.refreshTopology(deadline);
      await sleep(Math.min(50, deadline.remainingMs));
    }
  }

  private track(exchange: () => Promise<void>): void {
    if (this.signal.aborted) return;
    this.inFlight++;
    void exchange()
      .catch((error: unknown) => this.fail(error))
      .finally(() => {
        this.inFlight--;
        this.wake();
      });
  }

  private async exchange(shadow: Shadow, commands: readonly ShadowCommand[]): Promise<void> {
    const isFirst = !shadow.hasBegun;
    if (isFirst) this.begun.push(shadow);
    shadow.hasBegun = true;
    const replies = await this.answer(this.multi(shadow.key, commands));
    if (!isFirst && replies[0]?.[1] !== 1) throw this.lost('it expired or was deleted');
    const failed = replies.find(([error]) => error !== null)?.[0];
    if (failed) throw this.refused(failed);
  }

  /**
   * Writes command by command, in one tick on a dedicated connection: a pipeline of ioredis takes a
   * sixth longer.
   */
  private multi(key: string, commands: readonly ShadowCommand[]): Promise<[Error | null, unknown][]> {
    const client = this.client!;
    const { ttlMs } = this.settings;
    const refusals: Error[] = [];
    const queue = (queued: Promise<unknown>): void =>
      void queued.catch((error: Error) => refusals.push(error));
    queue(client.multi({ pipeline: false }));
    queue(client.pexpire(key, ttlMs, 'XX'));
    for (const [name, args] of commands) queue(client.call(name, args as (string | Buffer)[]));
    queue(client.pexpire(key, ttlMs));
    return client.exec().then(
      (replies) => replies ?? [],
      (error: Error) => {
        throw Object.assign(error, { previousErrors: refusals });
      },
    );
  }

  private async refresh(): Promise<void> {
    if (this.begun.length === 0) return;
    try {
      const pipeline = this.client!.pipeline();
      for (const { key } of this.begun) pipeline.pexpire(key, this.settings.ttlMs, 'XX');
      const replies = await this.answer(pipeline.exec());
      if (replies?.some(([, renewed]) => renewed !== 1)) throw this.lost('it expired or was deleted');
    } catch (error) {
      this.fail(error);
    }
  }

  private async answer<T>(pending: Promise<T>): Promise<T> {
    const { timeoutMs } = this.settings;
    try {
      return await Deadline.in(timeoutMs).race(
        pending,
        () => new Error(`Redis did not answer within ${timeoutMs} ms`),
      );
    } catch (error) {
      throw this.refused(error as Error);
    }
  }

  /**
   * Makes the error of the build. A lost connection, or a server that is no longer the right one,
   * loses the shadow; any other failure is final.
   */
  private refused(error: Error): Error {
    if (isConnectionLoss(error)) return this.lost(error.message, error);
    const refusal = finalRefusal(error);
    if (!refusal) return this.lost(`its server refused a write (${error.message})`, error);
    return toReplyError(refusal, 'a write of the new value; the live value was left as it was', error);
  }

  private lost(why: string, cause?: unknown): ShadowLostError {
    return new ShadowLostError(this.settings.liveKeys, why, { cause });
  }

  private async untilAtMost(limit: number): Promise<void> {
    while (this.inFlight > limit && !this.signal.aborted) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    this.signal.throwIfAborted();
  }

  private wake(): void {
    const { waiting } = this;
    this.waiting = [];
    for (const resume of waiting) resume();
  }
}
