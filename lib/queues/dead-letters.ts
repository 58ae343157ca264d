import { InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { copyOperationOptions } from '../operations/operation.options.js';
import type { DeadLetter } from './dead-letter.js';
import type { PayloadFormat } from './payload-format.js';
import type { QueueCommands } from './queue-commands.js';
import { queueCallOptionChecks, type QueueCallOptions } from './queue.options.js';

/** A page of dead letters. @inline */
export interface ListOptions {
  /** Number of jobs to leave out, the oldest first. @default 0 */
  offset?: number;
  /** Largest number of jobs, 1 to 1,000. @default 100 */
  limit?: number;
  /** Time for the call, in milliseconds. Default: the module's `timeoutMs`. */
  timeoutMs?: number;
}

/** Dead letters that one script call takes, so that no call holds Redis up for long. */
const CHUNK = 1_000;

const checkCallOptions = check.options(queueCallOptionChecks);
const checkListOptions = check.options({
  offset: check.integer(0),
  limit: check.integer(1, CHUNK),
  timeoutMs: check.waitMs(),
} satisfies Record<keyof ListOptions, check.Check>);

/** The jobs of a queue that were given up. They stay until they are requeued or purged. */
export class DeadLetters<T = unknown> {
  /** @internal */
  constructor(
    private readonly commands: QueueCommands,
    private readonly format: PayloadFormat,
  ) {}

  /**
   * In the order they died.
   * @throws InvalidArgumentError, RedisUnavailableError
   */
  async list(options: ListOptions = {}): Promise<DeadLetter<T>[]> {
    const list = async (): Promise<DeadLetter<T>[]> => {
      checkListOptions('options', options);
      const { offset = 0, limit = 100, ...rest } = options;
      const letters = await this.commands.listDead(offset, limit, rest);
      return await Promise.all(
        letters.map(async (letter) => ({ ...letter, payload: await this.read(letter.bytes) })),
      );
    };
    return await this.commands.observe('queues.listDead', list, () => false);
  }

  /**
   * Puts jobs back at the end of the queue, with as many deliveries before them as a new one has.
   *
   * @param ids of the jobs
   * @returns how many were requeued; ids that are not in the dead letters are left out
   * @throws InvalidArgumentError, RedisUnavailableError, OutcomeUnknownError,
   * IllegalTransactionStateError; of many jobs some may have been requeued
   */
  async requeue(ids: readonly string[], options: QueueCallOptions = {}): Promise<number> {
    const requeue = (): Promise<number> => this.take('requeue', ids, options);
    return await this.commands.observe('queues.requeueDead', requeue, Boolean);
  }

  /**
   * Puts all jobs back that are there now, as {@link requeue} does.
   *
   * @returns how many were requeued
   * @throws as `requeue` does
   */
  async requeueAll(options: QueueCallOptions = {}): Promise<number> {
    const requeue = (): Promise<number> => this.takeAll('requeue', options);
    return await this.commands.observe('queues.requeueDead', requeue, Boolean);
  }

  /**
   * Deletes jobs.
   *
   * @param ids of the jobs
   * @returns how many were deleted; ids that are not in the dead letters are left out
   * @throws as {@link requeue} does
   */
  async purge(ids: readonly string[], options: QueueCallOptions = {}): Promise<number> {
    const purge = (): Promise<number> => this.take('purge', ids, options);
    return await this.commands.observe('queues.purgeDead', purge, Boolean);
  }

  /**
   * Deletes all jobs that are there now.
   *
   * @returns how many were deleted
   * @throws as {@link requeue} does
   */
  async purgeAll(options: QueueCallOptions = {}): Promise<number> {
    const purge = (): Promise<number> => this.takeAll('purge', options);
    return await this.commands.observe('queues.purgeDead', purge, Boolean);
  }

  private async take(
    action: 'requeue' | 'purge',
    ids: readonly string[],
    options: QueueCallOptions,
  ): Promise<number> {
    checkCallOptions('options', options);
    checkIds(ids);
    const [all, operation] = [[...ids], copyOperationOptions(options)];
    let taken = 0;
    for (let i = 0; i < all.length; i += CHUNK)
      taken += await this.commands.takeDead(action, all.slice(i, i + CHUNK), operation);
    return taken;
  }

  private async takeAll(action: 'requeue' | 'purge', options: QueueCallOptions): Promise<number> {
    checkCallOptions('options', options);
    const operation = copyOperationOptions(options);
    const { timeoutMs } = operation;
    // As many as exist now: more jobs may die meanwhile.
    let left = (await this.commands.counts(timeoutMs === undefined ? {} : { timeoutMs })).dead;
    let taken = 0;
    while (left > 0) {
      const some = await this.commands.takeDead(action, Math.min(left, CHUNK), operation);
      if (some === 0) break;
      taken += some;
      left -= some;
    }
    return taken;
  }

  private async read(bytes: Buffer): Promise<T | undefined> {
    try {
      return (await this.format.decode(bytes)) as T;
    } catch {
      return undefined;
    }
  }
}

function checkIds(ids: readonly string[]): void {
  if (!Array.isArray(ids)) throw new InvalidArgumentError('ids', 'an array of job ids', ids);
  for (const [i, id] of ids.entries()) check.nonEmptyString(`ids[${i}]`, id);
}
