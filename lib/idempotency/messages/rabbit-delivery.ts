import { Logger } from '@nestjs/common';
import { settled } from '../settled.js';

const logger = new Logger('Idempotent');

/** A message as amqplib delivers it. */
interface Message {
  readonly fields: { readonly deliveryTag: number; readonly redelivered?: boolean };
  readonly properties?: { readonly replyTo?: unknown };
}

/** The methods of amqplib's channel that settle messages. */
interface Channel {
  ack(message: Message, allUpTo?: boolean): void;
  nack(message: Message, allUpTo?: boolean, requeue?: boolean): void;
  reject(message: Message, requeue?: boolean): void;
  ackAll(): void;
  nackAll(requeue?: boolean): void;
}

/** Nest's `RmqContext`. Its three arguments are message, channel and pattern. */
export interface RmqContext {
  getMessage(): Message;
  getChannelRef(): Channel;
  getArgs(): unknown[];
}

const CHANNEL_ARGUMENT = 1;

export const isRmqContext = (value: unknown): value is RmqContext => {
  const context = value as Partial<Record<keyof RmqContext, unknown>> | null | undefined;
  return (
    typeof context === 'object' &&
    typeof context?.getChannelRef === 'function' &&
    typeof context.getMessage === 'function' &&
    typeof context.getArgs === 'function'
  );
};

const deliveries = new WeakMap<object, RabbitDelivery>();
const channels = new WeakSet<object>();

/** True if a method that is called with this argument can settle its message. */
export const settles = (argument: unknown): boolean =>
  isRmqContext(argument) || (typeof argument === 'object' && argument !== null && channels.has(argument));

/**
 * One delivery of a message over RabbitMQ. RabbitMQ closes a channel on which a message is settled
 * twice. It sends no more messages to a consumer that has not settled its own. So the context hands
 * out the channel behind a thin layer: it sees which code settles this message, and refuses to
 * settle it a second time.
 */
export class RabbitDelivery {
  private outcome: 'acknowledged' | 'given back' | undefined;
  private wasChannelTaken = false;

  private constructor(
    private readonly message: Message,
    private readonly channel: Channel,
  ) {}

  /** Undefined where there is no message of RabbitMQ's. */
  static of(context: RmqContext): RabbitDelivery | undefined {
    const message = context.getMessage() as Partial<Message> | null | undefined;
    if (typeof message?.fields?.deliveryTag !== 'number') return undefined;
    const known = deliveries.get(message);
    if (known) return known;
    const channel = context.getChannelRef() as unknown;
    if (typeof channel !== 'object' || channel === null) return undefined;
    const delivery = new RabbitDelivery(message as Message, channel as Channel);
    const observed = delivery.observed();
    channels.add(observed);
    Object.defineProperty(context.getArgs(), CHANNEL_ARGUMENT, {
      configurable: true,
      enumerable: true,
      get: () => {
        delivery.wasChannelTaken = true;
        return observed;
      },
    });
    deliveries.set(message, delivery);
    return delivery;
  }

  /** True if the sender waits for a reply. */
  get isAwaited(): boolean {
    return this.message.properties?.replyTo !== undefined;
  }

  get wasGivenBack(): boolean {
    return this.outcome === 'given back';
  }

  /**
   * Runs a method, and tells whether it acknowledges by hand: it has settled the message, or taken
   * the channel so that it may.
   */
  async watch(
    method: () => unknown,
    told: (byHand: boolean, hasSucceeded: boolean) => void,
  ): Promise<unknown> {
    this.wasChannelTaken = false;
    const before = this.outcome;
    const tell = (hasSucceeded: boolean): void =>
      told(this.wasChannelTaken || this.outcome !== before, hasSucceeded);
    try {
      const value = await settled(method());
      tell(true);
      return value;
    } catch (error) {
      tell(false);
      throw error;
    }
  }

  acknowledge(): void {
    this.settle(() => this.ack(this.message));
  }

  /** To the queue's dead letters, or to nowhere where it has none. */
  reject(): void {
    this.settle(() => this.nack(this.message, false, false));
  }

  /** A channel that has closed meanwhile gives all its messages back by itself. */
  private settle(how: () => void): void {
    try {
      how();
    } catch (error) {
      logger.warn(`A message of RabbitMQ could not be settled: ${String(error)}`);
    }
  }

  private ack(message: Message, allUpTo = false): void {
    this.once(message, allUpTo, 'acknowledged', () => this.channel.ack(message, allUpTo));
  }

  private nack(message: Message, allUpTo = false, requeue = true): void {
    this.once(message, allUpTo, 'given back', () => this.channel.nack(message, allUpTo, requeue));
  }

  private once(
    message: Message,
    allUpTo: boolean,
    as: NonNullable<RabbitDelivery['outcome']>,
    settle: () => void,
  ): void {
    const { deliveryTag } = this.message.fields;
    const tag = (message as Message | undefined)?.fields.deliveryTag ?? Number.NaN;
    const isThis = tag === deliveryTag || (allUpTo && tag > deliveryTag);
    if (tag === deliveryTag && !allUpTo && this.outcome) return;
    if (isThis) this.outcome ??= as;
    settle();
  }

  private observed(): Channel {
    const { channel } = this;
    const observed: Channel = {
      ack: (message, allUpTo) => this.ack(message, allUpTo),
      nack: (message, allUpTo, requeue) => this.nack(message, allUpTo, requeue),
      reject: (message, requeue) =>
        this.once(message, false, 'given back', () => channel.reject(message, requeue)),
      ackAll: () => {
        this.outcome ??= 'acknowledged';
        channel.ackAll();
      },
      nackAll: (requeue) => {
        this.outcome ??= 'given back';
        channel.nackAll(requeue);
      },
    };
    return new Proxy(channel, {
      get(target, name) {
        if (Object.hasOwn(observed, name)) return observed[name as keyof Channel];
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  }
}
