import { AsyncResource } from 'node:async_hooks';
import { EventEmitter } from 'node:events';
import { ServerRMQ } from '@nestjs/microservices';

interface FakeMessage {
  readonly content: Buffer;
  readonly properties: Readonly<Record<string, unknown>>;
  readonly fields: { readonly deliveryTag: number; readonly redelivered: boolean };
}

interface Queued {
  readonly content: Buffer;
  readonly properties: Readonly<Record<string, unknown>>;
  redelivered: boolean;
}

interface Consumer {
  readonly channel: FakeChannel;
  readonly deliver: (message: FakeMessage) => void;
  readonly noAck: boolean;
}

/**
 * One queue by the rules of RabbitMQ that handlers can break: a consumer gets no message beyond its
 * prefetch until it settles one; a message that is settled twice closes the channel; a closed
 * channel gives its messages back. For machines without a RabbitMQ, and to see the calls.
 */
export class FakeRabbit {
  readonly waiting: Queued[] = [];
  readonly replies: unknown[] = [];
  readonly channels: FakeChannel[] = [];
  readonly rejected: unknown[] = [];
  private readonly consumers: Consumer[] = [];

  /** A strategy for `createNestMicroservice`. */
  server(noAck: boolean): ServerRMQ {
    const connect = (): unknown => {
      const connection = new EventEmitter();
      setImmediate(() => connection.emit('connect'));
      return Object.assign(connection, {
        createChannel: ({ setup }: { setup: (channel: unknown) => Promise<void> }) => {
          const channel = new FakeChannel(this);
          this.channels.push(channel);
          void setup(channel);
          return channel;
        },
        close: () => undefined,
      });
    };
    class Server extends ServerRMQ {
      // A promise in Nest 12; Nest 11 does not wait for one.
      override createClient(): never {
        return connect() as never;
      }
    }
    return new Server({ urls: ['amqp://none'], queue: 'orders', noAck, prefetchCount: 1 });
  }

  /** Settlement of each message. */
  get isEmpty(): boolean {
    return this.waiting.length === 0 && this.channels.every(({ unsettled }) => unsettled.size === 0);
  }

  publish(packet: object, properties: Readonly<Record<string, unknown>> = {}): void {
    this.waiting.push({ content: Buffer.from(JSON.stringify(packet)), properties, redelivered: false });
    this.dispatch();
  }

  consume(consumer: Consumer): void {
    this.consumers.push(consumer);
    this.dispatch();
  }

  giveBack(messages: readonly Queued[]): void {
    for (const message of messages) message.redelivered = true;
    this.waiting.unshift(...messages);
    this.dispatch();
  }

  /** Emits as a socket would: in none of the async contexts of the code that settles messages. */
  readonly dispatch = AsyncResource.bind((): void => {
    setImmediate(() => {
      for (const { channel, deliver, noAck } of this.consumers) {
        if (channel.isClosed || (!noAck && channel.unsettled.size > 0)) continue;
        const queued = this.waiting.shift();
        if (!queued) return;
        deliver(channel.take(queued, noAck));
        this.dispatch();
      }
    });
  });
}

export class FakeChannel extends EventEmitter {
  readonly unsettled = new Map<number, Queued>();
  isClosed = false;
  private lastTag = 0;

  constructor(private readonly broker: FakeRabbit) {
    super();
  }

  assertQueue = async (queue: string): Promise<object> => ({ queue });
  prefetch = async (): Promise<void> => undefined;

  consume(_queue: string, deliver: Consumer['deliver'], { noAck = false }: { noAck?: boolean }): void {
    this.broker.consume({ channel: this, deliver, noAck });
  }

  take(queued: Queued, noAck: boolean): FakeMessage {
    const deliveryTag = ++this.lastTag;
    if (!noAck) this.unsettled.set(deliveryTag, queued);
    const { content, properties, redelivered } = queued;
    return { content, properties, fields: { deliveryTag, redelivered } };
  }

  ack(message: FakeMessage): void {
    this.settle(message);
  }

  nack(message: FakeMessage, _allUpTo: boolean, requeue = true): void {
    const queued = this.settle(message);
    if (queued && requeue) this.broker.giveBack([queued]);
    else if (queued) this.broker.rejected.push(JSON.parse(queued.content.toString()));
  }

  sendToQueue(_queue: string, content: Buffer): void {
    this.broker.replies.push(JSON.parse(content.toString()));
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    this.broker.giveBack([...this.unsettled.values()]);
    this.unsettled.clear();
  }

  private settle({ fields: { deliveryTag } }: FakeMessage): Queued | undefined {
    const queued = this.unsettled.get(deliveryTag);
    // PRECONDITION_FAILED - unknown delivery tag
    if (!queued) void this.close();
    this.unsettled.delete(deliveryTag);
    this.broker.dispatch();
    return queued;
  }
}
