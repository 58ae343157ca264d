import type { Redis } from 'ioredis';
import { Deadline, fullJitter, sleep } from '../redis/deadline.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import { isConnectionLoss } from '../redis/reply-errors.js';
import type { QueueCommands } from './queue-commands.js';

/** Longest that one BLMOVE blocks: well under the silence after which a connection is taken for dead, so one that died is noticed within that. */
const BLOCK_SECONDS = 1;

/** How long the connection is kept when nobody waits. */
const LINGER_MS = 5_000;

/** For opening the connection; closing may have to wait for it. */
const OPEN_TIMEOUT_MS = 2_000;

/** Closing has to wait for it. */
const GIVE_BACK_TIMEOUT_MS = 2_000;

interface Waiter {
  wake(): void;
  fail(reason: Error): void;
}

/**
 * Waits for jobs by BLMOVE into the consumer's processing list, on a connection of its own, in rounds of a second, for as long as somebody waits.
 *
 * What a BLMOVE moved is not handed to anybody: whoever waits longest is woken and takes, by the script that looks into the processing list first.
 * So a lost reply comes to the same as one that arrived: the list is read at once. Each round wakes one, also when it moved nothing, to take
 * what no BLMOVE would show: a job whose lease has ended.
 */
export class Arrivals {
  private readonly waiting: Waiter[] = [];
  private readonly closing = new AbortController();
  private client: Redis | undefined;
  private rounds: Promise<void> | undefined;
  private somebodyWaits = (): void => undefined;
  /** A BLMOVE was not answered: it may yet arrive, whenever the network lets go of it. */
  private hasLostReply = false;
  private wasUsed = false;

  constructor(
    private readonly connection: RedisConnection,
    private readonly commands: QueueCommands,
    /** Told when somebody waits: from then on it is to be closed. */
    private readonly used: () => void,
  ) {}

  /**
   * Resolves with true when it is the caller's turn to take, or with false when its time is up.
   * @throws the signal's reason; ModuleClosedError
   */
  async turn(until: Deadline, signal?: AbortSignal): Promise<boolean> {
    if (this.closing.signal.aborted) throw this.connection.closedError();
    signal?.throwIfAborted();
    this.wasUsed = true;
    this.used();
    return await new Promise<boolean>((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        const position = this.waiting.indexOf(waiter);
        if (position >= 0) this.waiting.splice(position, 1);
      };
      const waiter: Waiter = {
        wake: () => {
          leave();
          resolve(true);
        },
        fail: (reason) => {
          leave();
          reject(reason);
        },
      };
      const onAbort = (): void => waiter.fail(signal?.reason as Error);
      const timer = setTimeout(() => {
        leave();
        resolve(false);
      }, until.remainingMs);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.waiting.push(waiter);
      this.somebodyWaits();
      this.rounds ??= this.runRounds().finally(() => (this.rounds = undefined));
    });
  }

  /** Waits for the round under way, at most some two seconds, then gives back what nobody will take. */
  async close(): Promise<void> {
    if (this.closing.signal.aborted) return;
    this.closing.abort();
    for (const waiter of [...this.waiting]) waiter.fail(this.connection.closedError());
    this.somebodyWaits();
    await this.rounds;
    if (this.wasUsed) await this.giveBack(!this.hasLostReply);
  }

  private async runRounds(): Promise<void> {
    let failures = 0;
    while (await this.isWaitedFor()) {
      let mayHaveMoved = true;
      try {
        mayHaveMoved = await this.round();
        failures = 0;
      } catch (error) {
        failures++;
        this.dropClient();
        // Redis may have said that the slot has moved.
        await this.connection.refreshTopology(Deadline.in(OPEN_TIMEOUT_MS));
        mayHaveMoved = isConnectionLoss(error);
      }
      const [first] = this.waiting;
      if (first) first.wake();
      // Left in the list, it would wait for this process to take again, or to be missed.
      else if (mayHaveMoved) await this.giveBack(false);
      if (failures > 0)
        await sleep(fullJitter(failures, 20, 1_000), this.closing.signal).catch(() => undefined);
    }
    this.dropClient();
  }

  /** Resolves with whether somebody waits, now or before long. */
  private async isWaitedFor(): Promise<boolean> {
    const { signal } = this.closing;
    if (this.waiting.length === 0 && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LINGER_MS);
        this.somebodyWaits = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return this.waiting.length > 0 && !signal.aborted;
  }

  private async giveBack(forget: boolean): Promise<void> {
    try {
      await this.commands.giveBack(forget, Deadline.in(GIVE_BACK_TIMEOUT_MS));
    } catch {
      // Others find it, once this consumer has not shown for a while.
    }
  }

  /** One BLMOVE. Resolves with whether it moved a job. */
  private async round(): Promise<boolean> {
    const client = await this.readyClient();
    if (this.closing.signal.aborted) return false;
    try {
      const id = await client.blmove(
        this.commands.keys.pending,
        this.commands.processing,
        'LEFT',
        'RIGHT',
        BLOCK_SECONDS,
      );
      return id !== null;
    } catch (error) {
      if (isConnectionLoss(error)) this.hasLostReply = true;
      throw error;
    }
  }

  private async readyClient(): Promise<Redis> {
    if (this.client?.status === 'ready') return this.client;
    this.dropClient();
    const deadline = Deadline.in(OPEN_TIMEOUT_MS);
    const slot = this.connection.keys.slotOf(this.commands.keys.pending);
    const owner = await this.connection.ownerOf(slot, deadline);
    return (this.client = await this.connection.openDedicated(owner, 'queue', deadline));
  }

  private dropClient(): void {
    this.client?.disconnect();
    this.client = undefined;
  }
}
