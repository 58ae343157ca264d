import { Injectable, type INestApplicationContext } from '@nestjs/common';
import {
  AmqpConnection,
  MessageHandlerErrorBehavior,
  Nack,
  RabbitMQModule,
  RabbitRPC,
  RabbitSubscribe,
} from '@golevelup/nestjs-rabbitmq';
import { Idempotent } from 'nestjs-atomic-redis';
import { rabbitProgram, useRabbit } from '../support/rabbitmq.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { Handling, startShipping } from './shipping.js';
import { gate } from './support.js';

/*
 * The module itself, at a RabbitMQ. It installs beside Nest 11 only, so a toolchain of that version
 * runs this spec (scripts/toolchains/own-specs.mjs).
 */
interface Event {
  readonly id: string;
  readonly amount?: number;
}

const EXCHANGE = 'orders';
const keyOf = ({ id }: Event): string => id;

(rabbitProgram ? describe : describe.skip)('@golevelup/nestjs-rabbitmq at a RabbitMQ', () => {
  const redis = useRedis();
  const rabbit = useRabbit();
  const handling = new Handling();
  const { handled } = handling;
  let app: INestApplicationContext;

  @Injectable()
  class Shipping {
    @RabbitSubscribe({
      exchange: EXCHANGE,
      routingKey: 'paid',
      queue: 'paid',
      errorBehavior: MessageHandlerErrorBehavior.NACK,
    })
    @Idempotent({ key: keyOf, fingerprint: ({ amount }: Event) => amount, operation: 'shipping.paid' })
    async onPaid({ id }: Event): Promise<unknown> {
      return await handling.handle(id);
    }

    @RabbitRPC({ exchange: EXCHANGE, routingKey: 'quote', queue: 'quote' })
    @Idempotent({ key: keyOf, operation: 'shipping.quote' })
    async quote({ id }: Event): Promise<object> {
      handled.push(id);
      return { quoted: handled.length };
    }
  }

  beforeEach(async () => {
    handling.reset();
    app = await startShipping(redis.server.url, Shipping, [
      RabbitMQModule.forRoot({
        uri: rabbit.url,
        exchanges: [{ name: EXCHANGE, type: 'topic', options: { durable: false } }],
        prefetchCount: 2,
        connectionInitOptions: { timeout: 40_000 },
      }),
    ]);
  });

  afterEach(() => app.close());

  const publish = async (event: Event): Promise<void> => {
    await app.get(AmqpConnection, { strict: false }).publish(EXCHANGE, 'paid', event);
  };

  /** Returns the handled messages once every earlier message is settled. */
  async function handledBefore(last: string): Promise<string[]> {
    await publish({ id: last });
    await waitFor('the last message', () => handled.includes(last));
    await waitFor('the queue to be empty', async () => {
      const { channel } = app.get(AmqpConnection, { strict: false });
      return (await channel.checkQueue('paid')).messageCount === 0;
    });
    return handled.slice(0, handled.indexOf(last));
  }

  it('[ID-40] a copy of a handled message is acknowledged, and a copy of a request gets the first reply', async () => {
    for (let i = 0; i < 4; i++) await publish({ id: 'e1' });
    expect(await handledBefore('e2')).toEqual(['e1']);
    handled.length = 0;
    const ask = (): Promise<object> =>
      app.get(AmqpConnection, { strict: false }).request({
        exchange: EXCHANGE,
        routingKey: 'quote',
        payload: { id: 'q1' },
        timeout: 40_000,
      });
    expect([await ask(), await ask()]).toEqual([{ quoted: 1 }, { quoted: 1 }]);
  });

  it('[ID-40] a message that its handler gave back runs again', async () => {
    handling.next = () => new Nack(true);
    await publish({ id: 'e1' });
    await waitFor('the second run', () => handled.length === 2);
    await publish({ id: 'e1' });
    expect(await handledBefore('e2')).toEqual(['e1', 'e1']);
  });

  it('[ID-40] a copy waits while the first message is handled', async () => {
    const { promise, resolve } = gate();
    handling.running = promise;
    for (let i = 0; i < 2; i++) await publish({ id: 'e1' });
    await waitFor('the handler', () => handled.length === 1);
    resolve();
    expect(await handledBefore('e2')).toEqual(['e1']);
  });

  it('[ID-40] a copy with another payload is refused, and the messages behind it are delivered', async () => {
    await publish({ id: 'e1', amount: 1 });
    await waitFor('the handler', () => handled.length === 1);
    await publish({ id: 'e1', amount: 2 });
    expect(await handledBefore('e2')).toEqual(['e1']);
  });
});
