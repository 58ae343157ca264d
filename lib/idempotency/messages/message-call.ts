import { Logger } from '@nestjs/common';
import { AtomicRedisError, ModuleClosedError, RedisUnavailableError } from '../../atomic-redis.errors.js';
import { fullJitter, sleep } from '../../runtime/deadline.js';
import { decide } from '../error-policy.js';
import { IdempotencyInFlightError } from '../idempotency.errors.js';
import type { IdempotencyOptions } from '../idempotency-call.options.js';
import type { IdempotencyService } from '../idempotency.service.js';
import type { ResultCodec } from '../result-codec.js';
import { handlingOf, type ResultHandling, type ResultNeed } from '../result-handling.js';
import { deliveryResult, readDelivery, type StoredResult } from '../stored-result.js';
import type { HandlerKind } from './handler-kind.js';
import { outsideOfMessage } from './message-context.js';
import type { RabbitDelivery } from './rabbit-delivery.js';

const logger = new Logger('Idempotent');

/** One call of a handler whose message is acknowledged by the handler, or by what it returns. */
export interface MessageCall {
  readonly idempotency: IdempotencyService;
  readonly kind: HandlerKind;
  /** The message, where the method can settle it. */
  readonly delivery: RabbitDelivery | undefined;
  readonly key: string;
  readonly options: IdempotencyOptions;
}

/**
 * Runs a handler once for each message.
 *
 * - A copy of a handled message is acknowledged as the first one was.
 * - A copy is held while the first one is being handled, or while Redis is away. Given back to
 *   RabbitMQ, it would be delivered again at once.
 * - A message that can never be handled is rejected.
 * - A message that its handler gives back (`nack`, a returned `Nack`) was not handled: its key is
 *   free again.
 */
export async function runForMessage(call: MessageCall, work: () => unknown): Promise<unknown> {
  const { idempotency, kind, delivery, key, options } = call;
  const { result } = options;
  const handling = new DeliveryHandling(kind, delivery, handlingOf(result), result);
  let hasRun = false;
  const handle = async (): Promise<unknown> => {
    hasRun = true;
    const value = await (delivery
      ? delivery.watch(
          () => outsideOfMessage(work),
          (...seen) => handling.ran(...seen),
        )
      : work());
    if (delivery?.wasGivenBack || isNack(value)) throw new GivenBack(value);
    return value;
  };
  for (let attempt = 1; ; attempt++) {
    try {
      return await idempotency.runAs(key, handle, held(options), handling);
    } catch (error) {
      if (error instanceof GivenBack) return error.value;
      if (hasRun || handling.hasRead) throw error;
      if (!isHeldBack(error)) {
        // A closed module takes its consumers with it, and RabbitMQ has the message again.
        if (!(error instanceof ModuleClosedError)) handling.refused();
        throw error;
      }
      if (attempt === 1) logger.warn(`${options.operation}: holding a message back: ${error.message}`);
      await sleep(fullJitter(attempt, 50, 1_000));
    }
  }
}

/**
 * Makes of a message what tells it from others. A message of which that cannot be made is rejected.
 */
export async function readingMessage<T>(
  kind: HandlerKind,
  delivery: RabbitDelivery | undefined,
  read: () => Promise<T>,
): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (acknowledges(kind)) delivery?.reject();
    throw error;
  }
}

/**
 * A method that is given the means to acknowledge is taken to use them until one of its runs shows
 * that it does not.
 */
const acknowledges = (kind: HandlerKind): boolean => kind.acknowledges ?? true;

/** A refusal that passes by itself. */
const isHeldBack = (error: unknown): error is Error =>
  error instanceof IdempotencyInFlightError || error instanceof RedisUnavailableError;

/** Copies wait, whatever the options say; see {@link runForMessage}. */
const held = (options: IdempotencyOptions): IdempotencyOptions => ({
  ...options,
  onDuplicate: 'wait',
  onError: (error) =>
    error instanceof GivenBack ? 'release' : decide(options.onError, error, options.result),
});

/** Ends the run of a handler that gave its message back, and brings out what it returned. */
class GivenBack extends Error {
  constructor(readonly value: unknown) {
    super('The handler gave its message back');
    this.name = 'GivenBack';
  }
}

/** A `Nack` of @golevelup/nestjs-rabbitmq, by the one property of its class. */
function isNack(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return (
    typeof prototype === 'object' &&
    prototype !== null &&
    Object.getOwnPropertyDescriptor(prototype, 'requeue')?.get !== undefined
  );
}

/**
 * Keeps with each result whether its handler acknowledged by hand, and does the same for copies.
 */
class DeliveryHandling implements ResultHandling {
  /** True if the message is a copy of one whose run has ended. */
  hasRead = false;
  private byHand: boolean | undefined;

  constructor(
    private readonly kind: HandlerKind,
    private readonly delivery: RabbitDelivery | undefined,
    private readonly handling: ResultHandling,
    private readonly need: ResultNeed | undefined,
  ) {}

  ran(byHand: boolean, hasSucceeded: boolean): void {
    this.byHand = byHand;
    // A method that failed may have done so before its acknowledgement.
    if (byHand) this.kind.acknowledges = true;
    else if (hasSucceeded) this.kind.acknowledges ??= false;
  }

  keep(result: StoredResult): StoredResult {
    if (!this.delivery || this.byHand === undefined) return result;
    if (result.kind !== 'tombstone') return deliveryResult(result, this.byHand);
    return this.need === 'optional' ? deliveryResult(NO_RESULT, this.byHand) : result;
  }

  read(stored: StoredResult, codec: ResultCodec): unknown {
    this.hasRead = true;
    const { result, byHand } = readDelivery(stored);
    const mayAcknowledge = byHand ?? acknowledges(this.kind);
    try {
      const value = this.handling.read(result, codec);
      if (mayAcknowledge) this.delivery?.acknowledge();
      return value;
    } catch (error) {
      const isUnknown = error instanceof AtomicRedisError && error.outcome === 'unknown';
      if (mayAcknowledge) this.delivery?.[isUnknown ? 'reject' : 'acknowledge']();
      throw error;
    }
  }

  /** The method will never run for this message. */
  refused(): void {
    if (acknowledges(this.kind)) this.delivery?.reject();
  }
}

const NO_RESULT: StoredResult = { kind: 'undefined', bytes: '' };
