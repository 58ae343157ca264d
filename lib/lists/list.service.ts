import { Inject, Injectable } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { OPTIONS } from '../atomic-redis.constants.js';
import {
  describe,
  InvalidArgumentError,
  OutcomeUnknownError,
  RedisUnavailableError,
  WrongTypeError,
} from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import { Observer } from '../observability/observer.js';
import { isWritable } from '../connection/client.js';
import { Deadline, sleep } from '../runtime/deadline.js';
import {
  decoded,
  encodingOptionChecks,
  type Decoded,
  type Encoding,
  type EncodingOptions,
} from '../scripting/encoding.js';
import { OperationRunner } from '../operations/operation-runner.js';
import {
  enforceableOptionChecks,
  type EnforceableOptions,
  type ResolvedDefaults,
} from '../operations/operation.options.js';
import { RedisConnection } from '../connection/redis-connection.js';
import { isConnectionLoss, isTransientRefusal, toReplyError } from '../connection/reply-errors.js';
import { WorkInFlight } from '../runtime/work-in-flight.js';
import * as operation from './list.operations.js';

/** `left` is the head of the list, `right` its tail. @inline */
export type ListEnd = 'left' | 'right';

/** Options of `ListService.move`. */
export interface MoveOptions<E extends Encoding = Encoding>
  extends Omit<EnforceableOptions, 'durability'>, EncodingOptions<E> {
  /** The end of the source to take from. @default 'left' */
  from?: ListEnd;
  /** The end of the destination to add to. @default 'right' */
  to?: ListEnd;
  /**
   * Time to wait for an element when the source is empty, in milliseconds; 0 does not wait.
   * @default 0
   */
  waitMs?: number;
}

/**
 * The longest that one BLMOVE blocks, in milliseconds, so that a dead connection is noticed by its
 * silence.
 */
const BLOCK_MS = 1_000;

const { durability: _, ...commonOptionChecks } = enforceableOptionChecks;
const checkMoveOptions = check.options({
  from: check.oneOf('left', 'right'),
  to: check.oneOf('left', 'right'),
  waitMs: check.waitMs(0),
  ...encodingOptionChecks,
  ...commonOptionChecks,
} satisfies Record<keyof MoveOptions, check.Check>);

const MOVED = { changed: (element: unknown): boolean => element !== null };

/** The time to open a connection, in milliseconds. Closing may have to wait for it. */
const OPEN_TIMEOUT_MS = 2_000;

/**
 * Moves elements between lists of your own. For work that must not be lost, use
 * `ReliableQueueService`.
 */
@Injectable()
export class ListService {
  private readonly closing = new AbortController();
  private readonly defaults: ResolvedDefaults;

  /** @internal */
  constructor(
    private readonly connection: RedisConnection,
    private readonly observer: Observer,
    private readonly operations: OperationRunner,
    private readonly inFlight: WorkInFlight,
    @Inject(OPTIONS) { services }: ResolvedOptions,
  ) {
    // BLMOVE can wait for no replica, nor does the move that it may follow.
    this.defaults = { ...services.lists, durability: undefined };
  }

  /**
   * Moves an element from one list to another, or to another end of the same one, in one step
   * (LMOVE).
   *
   * Without `waitMs` it takes effect once, also if the reply is lost and the library sends the
   * command again. With `waitMs` it first does the same. If the source is empty, it then waits by
   * BLMOVE on a connection of its own. Redis moves the element before it answers, so a lost answer
   * looks like a wait that moved nothing. That is an `OutcomeUnknownError`; an element that was
   * moved is in the destination.
   *
   * @returns the element, or null when there was none
   * @throws InvalidArgumentError, CrossSlotError before any I/O
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was moved
   * @throws OutcomeUnknownError when an element may have been moved
   * @throws WrongTypeError for a key that is not a list; nothing was moved
   * @throws InvalidUtf8Error when the element is not UTF-8, and `encoding` is not `buffer`; it was
   * moved
   * @throws RedisReplyError when Redis refused it, as when its memory is full; nothing was moved
   * @throws IllegalTransactionStateError inside an open transaction
   * @throws ModuleClosedError when the module is closed while it waits
   */
  move<E extends Encoding = 'utf8'>(
    source: string,
    destination: string,
    options: MoveOptions<E> = {},
  ): Promise<Decoded<E> | null> {
    return this.observer.operation(
      'lists.move',
      async () => {
        check.key('source', source);
        check.key('destination', destination);
        checkMoveOptions('options', options);
        const { from = 'left', to = 'right', waitMs = 0, encoding, ...rest } = options;
        // BLMOVE can check nothing.
        if (rest.permit && waitMs > 0)
          throw new InvalidArgumentError('options.waitMs', '0 under a permit', waitMs);
        const ends = { from: from.toUpperCase(), to: to.toUpperCase() };
        const until = Deadline.in(waitMs);
        const moved = await this.operations.part(
          operation.move,
          { source, destination, ...ends },
          rest,
          this.defaults,
        );
        const element =
          moved || until.passed
            ? moved
            : await this.inFlight.track(() => this.waitAndMove(source, destination, ends, until));
        return element && decoded(element, { encoding }, { key: source, outcome: 'applied' });
      },
      MOVED,
    );
  }

  /**
   * Ends every wait as soon as its BLMOVE was answered, within about a second. An element that it
   * moves is returned. @internal
   */
  close(): void {
    this.closing.abort(this.connection.closedError());
  }

  private async waitAndMove(
    source: string,
    destination: string,
    ends: { from: string; to: string },
    until: Deadline,
  ): Promise<Buffer | null> {
    const { signal } = this.closing;
    let client: Redis | undefined;
    try {
      while (!until.passed) {
        signal.throwIfAborted();
        if (!client || !isWritable(client)) {
          client?.disconnect();
          client = await this.open(source, until);
          continue;
        }
        const seconds = Math.max(10, Math.min(BLOCK_MS, until.remainingMs)) / 1_000;
        try {
          // The typed method has an overload for each pair of ends.
          const element = await client.callBuffer('BLMOVE', source, destination, ends.from, ends.to, seconds);
          if (element) return element as Buffer;
        } catch (error) {
          if (isConnectionLoss(error)) throw this.lost(source, error as Error);
          if ((error as Error).message.startsWith('WRONGTYPE')) {
            // One of the two keys is not a list. The element, if there is one, stays where it is.
            const type = await client.type(source).catch(() => 'list');
            throw new WrongTypeError(type === 'list' || type === 'none' ? destination : source, 'list');
          }
          if (!isTransientRefusal(error))
            throw toReplyError(error as Error, `BLMOVE from ${describe(source)}`);
          // The slot has moved, or its master has changed.
          await this.connection.refreshTopology(Deadline.in(OPEN_TIMEOUT_MS));
          client.disconnect();
        }
      }
      return null;
    } finally {
      client?.disconnect();
    }
  }

  /** Tries until the time is over: the server may fail over during the wait. */
  private async open(source: string, until: Deadline): Promise<Redis> {
    for (;;) {
      const deadline = Deadline.in(OPEN_TIMEOUT_MS);
      try {
        const owner = await this.connection.ownerOf(this.connection.keys.slotOf(source), deadline);
        return await this.connection.openDedicated(owner, 'list', deadline);
      } catch (error) {
        if (!(error instanceof RedisUnavailableError) || until.passed) throw error;
        await this.connection.refreshTopology(deadline);
        await sleep(Math.min(50, until.remainingMs), this.closing.signal);
      }
    }
  }

  private lost(source: string, cause: Error): OutcomeUnknownError {
    return new OutcomeUnknownError(
      `The connection was lost during a wait for an element of ${describe(source)}, so an element may have been moved: look for it in the destination before you call again`,
      { cause },
    );
  }
}
