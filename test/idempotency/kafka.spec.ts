import { Controller, Module, NotFoundException } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { AtomicRedisModule, Idempotent, OutcomeUnknownError } from 'nestjs-atomic-redis';
import { FakeKafka } from '../support/fake-kafka.js';
import { useRedis } from '../support/redis.js';

/** Nest's overload that leaves the types of the handler's parameters alone. */
const OnEvent = EventPattern as (pattern: string) => MethodDecorator;
const OnRequest = MessagePattern as (pattern: string) => MethodDecorator;

interface Event {
  readonly id: string;
}

class Parcel {
  readonly shippedAt = new Date();
  constructor(readonly id: string) {}
}

describe('handlers of messages from Kafka', () => {
  const redis = useRedis();
  const handled: string[] = [];
  let failure: Error | undefined;
  let kafka: FakeKafka;
  let close: () => Promise<void>;

  @Controller()
  class Shipping {
    @OnEvent('orders.paid')
    @Idempotent({ key: ({ id }: Event) => id, operation: 'shipping.paid' })
    async onPaid(@Payload() { id }: Event): Promise<Parcel> {
      handled.push(id);
      if (failure) throw failure;
      return new Parcel(id);
    }

    @OnRequest('orders.ship')
    @Idempotent({ key: ({ id }: Event) => id, operation: 'shipping.ship' })
    async ship(@Payload() { id }: Event): Promise<Parcel> {
      handled.push(id);
      return new Parcel(id);
    }
  }

  beforeEach(async () => {
    handled.length = 0;
    failure = undefined;
    @Module({
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' })],
      controllers: [Shipping],
    })
    class AppModule {}
    const module = await Test.createTestingModule({ imports: [AppModule] }).compile();
    module.useLogger(false);
    kafka = new FakeKafka();
    const app = module.createNestMicroservice({ strategy: kafka.server });
    await app.listen();
    close = () => app.close();
  });

  afterEach(() => close());

  const deliver = (topic: string, id: string, headers: object = {}): Promise<void> =>
    kafka.deliver(topic, { id }, headers);

  it.each(['orders.paid', 'orders.ship'])(
    '[ID-41] a copy of a handled message is committed, whatever its handler returned: %s',
    async (topic) => {
      for (let i = 0; i < 3; i++) await deliver(topic, 'e1');
      expect(handled).toEqual(['e1']);
    },
  );

  it('[ID-41] a 4xx of a service does not answer a message: it is redelivered and runs again', async () => {
    failure = new NotFoundException('no order e1 yet');
    await expect(deliver('orders.paid', 'e1')).rejects.toBeDefined();
    failure = undefined;
    await deliver('orders.paid', 'e1');
    expect(handled).toEqual(['e1', 'e1']);
  });

  it('[ID-41] a message whose outcome is unknown is reported, and does not run again', async () => {
    failure = new OutcomeUnknownError('the carrier did not answer');
    await expect(deliver('orders.paid', 'e1')).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    await expect(deliver('orders.paid', 'e1')).rejects.toMatchObject({ code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
    expect(handled).toEqual(['e1']);
  });

  it('[ID-41] a sender that waits for a reply learns that the reply could not be kept', async () => {
    const headers = { kafka_correlationId: '1', kafka_replyTopic: 'replies' };
    for (let i = 0; i < 2; i++) await deliver('orders.ship', 'e1', headers);
    const errors = (): unknown[] =>
      kafka.replies.map((reply) => {
        const [message] = (reply as { messages: { headers: Record<string, Buffer | undefined> }[] }).messages;
        return message?.headers['kafka_nest-err']?.toString() ?? null;
      });
    await new Promise((resolve) => setImmediate(resolve));
    expect(handled).toEqual(['e1']);
    expect(errors()).toEqual(
      expect.arrayContaining([expect.stringContaining('IDEMPOTENCY_RESULT_UNAVAILABLE')]),
    );
  });
});
