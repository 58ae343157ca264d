import type { CallHandler, ExecutionContext } from '@nestjs/common';
import type { Observable } from 'rxjs';
import { AsyncScope } from '../../runtime/async-scope.js';
import { isRmqContext, RabbitDelivery, settles } from './rabbit-delivery.js';

/** A message of a microservice on its way to its handler. */
interface HandledMessage {
  /** The operation of the decorator whose method is the handler. */
  readonly interceptor: object | undefined;
  /** Set for RabbitMQ. */
  readonly delivery: RabbitDelivery | undefined;
  /** True if its sender waits for a reply; undefined if the transport does not say. */
  readonly isAwaited: boolean | undefined;
}

const messages = new AsyncScope<HandledMessage | undefined>();

/** Lets the wrapper of the handler know the message. */
export function interceptMessage(
  interceptor: object,
  context: ExecutionContext,
  next: CallHandler,
): Observable<unknown> {
  const message = context.getType() === 'rpc' ? messageIn(context.switchToRpc().getContext()) : undefined;
  return message ? messages.run({ ...message, interceptor }, () => next.handle()) : next.handle();
}

/**
 * The message that a method is called for: as its handler, or as a method that the handler gives
 * its context to.
 */
export function messageFor(interceptor: object, args: readonly unknown[]): HandledMessage | undefined {
  const handled = messages.find();
  const message = handled?.interceptor === interceptor ? handled : messageIn(args.find(isRmqContext));
  if (!message?.delivery || args.some(settles)) return message;
  // Settled by its surroundings.
  return { ...message, delivery: undefined };
}

/** Calls from inside a handler are not for its message. */
export const outsideOfMessage = <T>(body: () => T): T => messages.run(undefined, body);

function messageIn(context: unknown): HandledMessage | undefined {
  if (isRmqContext(context)) {
    const delivery = RabbitDelivery.of(context);
    return delivery && { interceptor: undefined, delivery, isAwaited: delivery.isAwaited };
  }
  const headers = kafkaHeaders(context);
  if (!headers) return undefined;
  const isAwaited = Boolean(headers['kafka_replyTopic'] && headers['kafka_correlationId']);
  return { interceptor: undefined, delivery: undefined, isAwaited };
}

/** Nest's `KafkaContext`. */
function kafkaHeaders(context: unknown): Readonly<Record<string, unknown>> | undefined {
  const { getTopic, getMessage } = (context ?? {}) as Record<'getTopic' | 'getMessage', unknown>;
  if (typeof getTopic !== 'function' || typeof getMessage !== 'function') return undefined;
  const message = getMessage.call(context) as { headers?: Record<string, unknown> } | undefined;
  return message?.headers ?? {};
}
