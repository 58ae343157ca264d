import { setTimeout as sleep } from 'node:timers/promises';
import {
  Controller,
  createParamDecorator,
  Injectable,
  Module,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
  type Type,
} from '@nestjs/common';
import {
  Ctx,
  EventPattern,
  MessagePattern,
  Payload,
  Transport,
  type CustomTransportStrategy,
  type MicroserviceOptions,
  type RmqContext,
} from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { connect, type Channel, type ChannelModel, type ConsumeMessage } from 'amqplib';
import { AtomicRedisModule, Idempotent } from 'nestjs-atomic-redis';
import { tap, type Observable } from 'rxjs';
import { startFaultProxy } from '../../lib/testing/index.js';
import { FakeRabbit } from '../support/fake-rabbit.js';
import { rabbitProgram, useRabbit } from '../support/rabbitmq.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate } from './support.js';

/** Nest's overload that leaves the types of the handler's parameters alone. */
const OnEvent = EventPattern as (pattern: string) => MethodDecorator;
const OnRequest = MessagePattern as (pattern: string) => MethodDecorator;

interface Event {
  readonly id: string;
  readonly amount?: number;
}

const redis = useRedis();
const handled: string[] = [];
const closers: (() => unknown)[] = [];

beforeEach(() => {
  handled.length = 0;
});

afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

const keyOf = (event: Event): string => event.id;

const acknowledge = (context: RmqContext): void => {
  const channel = context.getChannelRef() as Channel;
  channel.ack(context.getMessage() as ConsumeMessage);
};

const giveBack = (context: RmqContext, requeue: boolean): void => {
  const channel = context.getChannelRef() as Channel;
  channel.nack(context.getMessage() as ConsumeMessage, false, requeue);
};

/** A handler of one message. */
type Handle = (event: Event, context: RmqContext) => unknown;

const handleAndAcknowledge: Handle = (event, context) => {
  handled.push(event.id);
  acknowledge(context);
};

/** A controller whose idempotent method does `handle`. */
function shipping(
  handle: Handle = handleAndAcknowledge,
  options: { fingerprint?: (event: Event) => unknown; timeoutMs?: number } = {},
  interceptors: Type<NestInterceptor>[] = [],
): Type {
  @Controller()
  class Shipping {
    @OnEvent('orders.paid')
    @UseInterceptors(...interceptors)
    @Idempotent({ key: keyOf, operation: 'shipping.paid', ...options })
    async onPaid(@Payload() event: Event, @Ctx() context: RmqContext): Promise<unknown> {
      return await handle(event, context);
    }
  }
  return Shipping;
}

/** The same controller, as another process has it. */
function successorOf(controller: Type): Type {
  class Successor extends controller {}
  Controller()(Successor);
  return Successor;
}

/** Acknowledges a message once its handler has ended. */
@Injectable()
class Acknowledging implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const rmq = context.switchToRpc().getContext<RmqContext>();
    return next.handle().pipe(tap({ complete: () => acknowledge(rmq) }));
  }
}

/** Takes the channel and the message before the handler runs. */
@Injectable()
class AcknowledgingEarly implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const rmq = context.switchToRpc().getContext<RmqContext>();
    const channel = rmq.getChannelRef() as Channel;
    return next.handle().pipe(tap({ complete: () => channel.ack(rmq.getMessage() as ConsumeMessage) }));
  }
}

/** A consumer with prefetch 1, on the strategy of one of the brokers below. */
async function start(
  controller: Type,
  options: MicroserviceOptions | { strategy: CustomTransportStrategy },
  connection = redis.server.url,
  providers: Type[] = [],
): Promise<void> {
  @Module({
    imports: [
      AtomicRedisModule.forRoot({ connection, namespace: 'atomic:', idempotency: { timeoutMs: 2_000 } }),
    ],
  })
  class Consumer {}

  const module = await Test.createTestingModule({
    imports: [Consumer],
    controllers: [controller],
    providers,
  }).compile();
  module.useLogger(false);
  const app = module.createNestMicroservice(options);
  await app.listen();
  closers.push(() => app.close());
}

/** The tests' access to a queue. */
interface Broker {
  start(controller: Type, connection?: string, providers?: Type[]): Promise<void>;
  send(id: string, more?: object): Promise<void>;
  /** Messages that no consumer has, or that one has and has not settled. */
  unsettled(): Promise<number>;
}

/** Machines without a RabbitMQ still have the calls on its channels looked at. */
const brokers: [string, () => () => Promise<Broker>][] = [
  [
    'the rules of RabbitMQ, observed',
    () => async () => {
      const rabbit = new FakeRabbit();
      return {
        start: (controller, ...more) => start(controller, { strategy: rabbit.server(false) }, ...more),
        send: async (id, more) => rabbit.publish({ pattern: 'orders.paid', data: { id, ...more } }),
        unsettled: async () => {
          if (rabbit.channels.some(({ isClosed }) => isClosed)) throw new Error('a channel was closed');
          return (
            rabbit.waiting.length + rabbit.channels.reduce((sum, { unsettled }) => sum + unsettled.size, 0)
          );
        },
      };
    },
  ],
];

if (rabbitProgram)
  brokers.push([
    'a RabbitMQ',
    () => {
      const server = useRabbit();
      let queues = 0;
      return async () => {
        const queue = `orders-${++queues}`;
        const connection: ChannelModel = await connect(server.url);
        closers.push(() => connection.close());
        const channel = await connection.createChannel();
        await channel.assertQueue(queue, { durable: false });
        const consumers: number[] = [];
        return {
          start: async (controller, ...more) => {
            const options = { urls: [server.url], queue, noAck: false, prefetchCount: 1 };
            consumers.push(1);
            await start(
              controller,
              { transport: Transport.RMQ, options: { ...options, queueOptions: { durable: false } } },
              ...more,
            );
            await waitFor('the consumer', async () => {
              const { consumerCount } = await channel.checkQueue(queue);
              return consumerCount === consumers.length;
            });
          },
          send: async (id, more) => {
            const packet = { pattern: 'orders.paid', data: { id, ...more } };
            channel.sendToQueue(queue, Buffer.from(JSON.stringify(packet)));
          },
          /**
           * A message that is settled has room behind it for the next one: the last that was sent
           * tells of those before it.
           */
          unsettled: async () => {
            const { messageCount, consumerCount } = await channel.checkQueue(queue);
            if (consumerCount !== consumers.length) throw new Error('RabbitMQ closed a channel');
            return messageCount;
          },
        };
      };
    },
  ]);

describe.each(brokers)('handlers of messages that are acknowledged by hand, with %s', (_, use) => {
  const makeBroker = use();
  let broker: Broker;

  beforeEach(async () => {
    broker = await makeBroker();
  });

  /**
   * Returns the handled messages once the queue is empty. With prefetch 1, a message is handled
   * only once the messages before it are settled.
   */
  async function handledOf(count: number): Promise<string[]> {
    await waitFor('all messages', () => handled.length >= count);
    await waitFor('the queue to be empty', async () => (await broker.unsettled()) === 0);
    return handled;
  }

  it('[ID-40] a copy of a handled message is acknowledged like the first one', async () => {
    const Shipping = shipping((event, context) => {
      handled.push(event.id);
      acknowledge(context);
      return { shippedAt: new Date() };
    });
    await broker.start(Shipping);
    for (const id of ['e1', 'e1', 'e1', 'e2', 'e1', 'e3']) await broker.send(id);
    expect(await handledOf(3)).toEqual(['e1', 'e2', 'e3']);
  });

  it('[ID-40] another process acknowledges a copy too, before any run of its own', async () => {
    const Shipping = shipping();
    await broker.start(Shipping);
    await broker.send('e1');
    expect(await handledOf(1)).toEqual(['e1']);
    for (const close of closers.splice(1).toReversed()) await close();
    broker = await makeBroker();
    await broker.start(successorOf(Shipping));
    for (const id of ['e1', 'e2']) await broker.send(id);
    expect(await handledOf(2)).toEqual(['e1', 'e2']);
  });

  it('[ID-40] a copy waits at a second consumer while the first is handled', async () => {
    const { promise, resolve } = gate();
    const Shipping = shipping(async (event, context) => {
      handled.push(event.id);
      if (event.id === 'e1') await promise;
      acknowledge(context);
    });
    await broker.start(Shipping);
    await broker.start(Shipping);
    await broker.send('e1');
    await waitFor('the first run', () => handled.length === 1);
    await broker.send('e1');
    await waitFor('the copy to be taken', async () => (await broker.unsettled()) <= 2);
    resolve();
    for (const id of ['e2', 'e3', 'e4']) await broker.send(id);
    await waitFor('all messages', () => handled.length >= 4);
    expect(handled.toSorted()).toEqual(['e1', 'e2', 'e3', 'e4']);
    await waitFor('the queue to be empty', async () => (await broker.unsettled()) === 0);
  });

  it('[ID-40] a message that its handler gives back runs again', async () => {
    const Shipping = shipping((event, context) => {
      handled.push(event.id);
      if (handled.length === 1) giveBack(context, true);
      else acknowledge(context);
    });
    await broker.start(Shipping);
    await broker.send('e1');
    expect(await handledOf(2)).toEqual(['e1', 'e1']);
    for (const id of ['e1', 'e2']) await broker.send(id);
    expect(await handledOf(3)).toEqual(['e1', 'e1', 'e2']);
  });

  it('[ID-40] a message that can never be handled is rejected, and the messages behind it are delivered', async () => {
    const Shipping = shipping(undefined, { fingerprint: ({ amount }: Event) => amount });
    await broker.start(Shipping);
    await broker.send(undefined as never); // without an id
    await broker.send('e1', { amount: 1 });
    await broker.send('e1', { amount: 2 }); // another payload
    await broker.send('e2');
    expect(await handledOf(2)).toEqual(['e1', 'e2']);
  });

  it('[ID-40] a message is held while Redis is away, and handled when it returns', async () => {
    const proxy = await startFaultProxy({ target: redis.server });
    closers.push(() => proxy.stop());
    const Shipping = shipping(undefined, { timeoutMs: 200 });
    await broker.start(Shipping, proxy.url);
    await broker.send('e1');
    expect(await handledOf(1)).toEqual(['e1']);
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    for (const id of ['e1', 'e2']) await broker.send(id);
    // Longer than a claim may take.
    await sleep(700);
    expect(handled).toEqual(['e1']);
    proxy.reset();
    expect(await handledOf(2)).toEqual(['e1', 'e2']);
  });

  it('[ID-40] a handler that receives only the channel and the message is settled for too', async () => {
    const Amqp = createParamDecorator((what: 'channel' | 'message', context: ExecutionContext) => {
      const rmq = context.switchToRpc().getContext<RmqContext>();
      return what === 'channel' ? rmq.getChannelRef() : rmq.getMessage();
    });
    @Controller()
    class Shipping {
      @OnEvent('orders.paid')
      @Idempotent({ key: keyOf, operation: 'shipping.paid' })
      async onPaid(
        @Payload() event: Event,
        @Amqp('channel') channel: Channel,
        @Amqp('message') message: ConsumeMessage,
      ): Promise<void> {
        handled.push(event.id);
        channel.ack(message);
      }
    }
    await broker.start(Shipping);
    for (const id of ['e1', 'e1', 'e2']) await broker.send(id);
    expect(await handledOf(2)).toEqual(['e1', 'e2']);
  });

  it('[ID-40] a provider method that receives the handler’s context is settled for too', async () => {
    @Injectable()
    class Parcels {
      @Idempotent({ key: keyOf, operation: 'parcels.ship' })
      async ship(event: Event, context: RmqContext): Promise<void> {
        handled.push(event.id);
        acknowledge(context);
      }
    }
    @Controller()
    class Shipping {
      constructor(private readonly parcels: Parcels) {}

      @OnEvent('orders.paid')
      async onPaid(@Payload() event: Event, @Ctx() context: RmqContext): Promise<void> {
        await this.parcels.ship(event, context);
      }
    }
    await broker.start(Shipping, redis.server.url, [Parcels]);
    for (const id of ['e1', 'e1', 'e2']) await broker.send(id);
    expect(await handledOf(2)).toEqual(['e1', 'e2']);
  });

  it('[ID-40] an interceptor that acknowledges keeps doing so, and nothing is settled twice', async () => {
    const Shipping = shipping(
      (event, context) => {
        handled.push(`${event.id} ${context.getPattern()}`);
      },
      {},
      [Acknowledging],
    );
    await broker.start(Shipping);
    for (const id of ['e1', 'e1', 'e2', 'e1', 'e3']) await broker.send(id);
    expect(await handledOf(3)).toEqual(['e1 orders.paid', 'e2 orders.paid', 'e3 orders.paid']);
  });

  it('[ID-40] an interceptor acknowledges a copy in another process, before any run of its own', async () => {
    const Shipping = shipping(
      (event) => {
        handled.push(event.id);
      },
      {},
      [AcknowledgingEarly],
    );
    await broker.start(Shipping);
    await broker.send('e1');
    expect(await handledOf(1)).toEqual(['e1']);
    broker = await makeBroker();
    await broker.start(successorOf(Shipping));
    for (const id of ['e1', 'e2']) await broker.send(id);
    expect(await handledOf(2)).toEqual(['e1', 'e2']);
  });

  it('[ID-40] a copy is settled once if the handler takes the channel and an interceptor acknowledges', async () => {
    const Shipping = shipping(
      (event, context) => {
        const channel = context.getChannelRef() as Channel;
        channel.sendToQueue('none', Buffer.from('{}'));
        handled.push(event.id);
      },
      {},
      [Acknowledging],
    );
    await broker.start(Shipping);
    for (const id of ['e1', 'e1', 'e2']) await broker.send(id);
    expect(await handledOf(2)).toEqual(['e1', 'e2']);
  });

  it('[ID-40] a handler that acknowledges after it has returned is settled for too', async () => {
    const Shipping = shipping((event, context) => {
      handled.push(event.id);
      const channel = context.getChannelRef() as Channel;
      if (event.id === 'e2') acknowledge(context);
      else setTimeout(() => channel.ack(context.getMessage() as ConsumeMessage), 50);
    });
    await broker.start(Shipping);
    for (const id of ['e1', 'e1', 'e2']) await broker.send(id);
    expect(await handledOf(2)).toEqual(['e1', 'e2']);
  });
});

describe('handlers of requests over RabbitMQ', () => {
  it('[ID-40] a copy gets the first reply, and is acknowledged', async () => {
    const rabbit = new FakeRabbit();
    @Controller()
    class Shipping {
      @OnRequest('ship')
      @Idempotent({ key: keyOf, operation: 'shipping.ship' })
      async ship(@Payload() event: Event, @Ctx() context: RmqContext): Promise<object> {
        handled.push(event.id);
        acknowledge(context);
        return { parcel: handled.length };
      }
    }
    await start(Shipping, { strategy: rabbit.server(false) });
    for (const id of ['1', '2'])
      rabbit.publish({ pattern: 'ship', data: { id: 'e1' }, id }, { replyTo: 'replies', correlationId: id });
    await waitFor('both replies', () => rabbit.replies.length >= 2);
    expect(rabbit.replies).toMatchObject([{ response: { parcel: 1 } }, { response: { parcel: 1 } }]);
    expect(handled).toEqual(['e1']);
    expect(rabbit.channels.map(({ isClosed, unsettled }) => [isClosed, unsettled.size])).toEqual([
      [false, 0],
    ]);
  });

  it('[ID-40] nothing is settled if RabbitMQ considers messages acknowledged on delivery', async () => {
    const rabbit = new FakeRabbit();
    const Shipping = shipping(
      (event, context) => {
        handled.push(`${event.id} ${context.getPattern()}`);
      },
      { fingerprint: ({ amount }: Event) => amount },
    );
    await start(Shipping, { strategy: rabbit.server(true) });
    const send = (id: string, amount: number): void =>
      rabbit.publish({ pattern: 'orders.paid', data: { id, amount } });
    send('e1', 1);
    await waitFor('the first', () => handled.length === 1);
    for (const amount of [1, 2]) send('e1', amount);
    send('e2', 1);
    await waitFor('the last', () => handled.length === 2);
    expect(handled).toEqual(['e1 orders.paid', 'e2 orders.paid']);
    expect(rabbit.channels[0]!.isClosed).toBe(false);
  });
});
