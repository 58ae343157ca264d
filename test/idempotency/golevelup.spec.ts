import { Injectable, SetMetadata, type INestApplicationContext } from '@nestjs/common';
import { ExternalContextCreator } from '@nestjs/core';
import { Idempotent, OutcomeUnknownError } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { Handling, startShipping } from './shipping.js';
import { gate } from './support.js';

/*
 * The parts of @golevelup/nestjs-rabbitmq that meet a handler, which does not install beside Nest
 * 12: the metadata of its decorators, the class of what a handler returns to give a message back,
 * and how a message is settled by what the handler comes to.
 */
const RABBIT_HANDLER = Symbol('RABBIT_HANDLER');
const RabbitSubscribe = (): MethodDecorator => SetMetadata(RABBIT_HANDLER, { type: 'subscribe' });
const RabbitRPC = (): MethodDecorator => SetMetadata(RABBIT_HANDLER, { type: 'rpc' });

class Nack {
  constructor(private readonly again = false) {}

  get requeue(): boolean {
    return this.again;
  }
}

interface Event {
  readonly id: string;
  readonly amount?: number;
}

type Settled =
  { readonly as: 'ack'; readonly reply: unknown } | { readonly as: 'nack' | 'requeue' | 'error' };

describe('handlers of @golevelup/nestjs-rabbitmq', () => {
  const redis = useRedis();
  const handling = new Handling();
  const { handled } = handling;
  let app: INestApplicationContext;

  @Injectable()
  class Shipping {
    @RabbitSubscribe()
    @Idempotent({
      key: ({ id }: Event) => id,
      fingerprint: ({ amount }: Event) => amount,
      operation: 'shipping.paid',
    })
    async onPaid({ id }: Event): Promise<unknown> {
      return await handling.handle(id);
    }

    @Idempotent({ key: ({ id }: Event) => id, operation: 'shipping.quote' })
    @RabbitRPC()
    async quote({ id }: Event): Promise<unknown> {
      return (await handling.handle(id)) ?? { quoted: handled.length };
    }
  }

  beforeEach(async () => {
    handling.reset();
    app = await startShipping(redis.server.url, Shipping);
  });

  afterEach(() => app.close());

  async function deliver(method: 'onPaid' | 'quote', event: Event): Promise<Settled> {
    const instance = app.get(Shipping);
    const bound = (instance[method] as (...args: unknown[]) => unknown).bind(instance);
    for (const key of Reflect.getMetadataKeys(instance[method]) as unknown[])
      Reflect.defineMetadata(key, Reflect.getMetadata(key, instance[method]), bound);
    const creator = app.get(ExternalContextCreator, { strict: false });
    const handler = creator.create(
      instance,
      bound,
      method,
      '',
      undefined,
      undefined,
      undefined,
      undefined,
      'rmq',
    );
    try {
      const reply: unknown = await handler(event, {}, {});
      if (reply instanceof Nack) return { as: reply.requeue ? 'requeue' : 'nack' };
      return { as: 'ack', reply };
    } catch {
      return { as: 'error' };
    }
  }

  it('[ID-40] acknowledge a copy of a handled message, and give a copy of a request the first reply', async () => {
    handling.next = () => new Date();
    for (let i = 0; i < 2; i++) expect((await deliver('onPaid', { id: 'e1' })).as).toBe('ack');
    for (let i = 0; i < 2; i++)
      expect(await deliver('quote', { id: 'q1' })).toEqual({ as: 'ack', reply: { quoted: 2 } });
    expect(handled).toEqual(['e1', 'q1']);
  });

  it.each([true, false])('[ID-40] run again for a message that they gave back: Nack(%s)', async (requeue) => {
    handling.next = () => new Nack(requeue);
    expect(await deliver('onPaid', { id: 'e1' })).toEqual({ as: requeue ? 'requeue' : 'nack' });
    for (let i = 0; i < 2; i++) expect((await deliver('onPaid', { id: 'e1' })).as).toBe('ack');
    expect(handled).toEqual(['e1', 'e1']);
  });

  it('[ID-40] keep a copy waiting while the first one is handled, instead of requeueing it at once', async () => {
    const { promise, resolve } = gate();
    handling.running = promise;
    const first = deliver('onPaid', { id: 'e1' });
    await waitFor('the handler', () => handled.length === 1);
    const copy = deliver('onPaid', { id: 'e1' });
    const soon = new Promise((done) => setTimeout(done, 200, 'waits'));
    expect(await Promise.race([copy, soon])).toBe('waits');
    resolve();
    expect([(await first).as, (await copy).as]).toEqual(['ack', 'ack']);
    expect(handled).toEqual(['e1']);
  });

  it('[ID-40] report an error by throwing it, so that the message is not acknowledged', async () => {
    await deliver('onPaid', { id: 'e1', amount: 1 });
    expect(await deliver('onPaid', { id: 'e1', amount: 2 })).toEqual({ as: 'error' });
    handling.next = () => {
      throw new OutcomeUnknownError('the carrier did not answer');
    };
    for (let i = 0; i < 2; i++) expect(await deliver('onPaid', { id: 'e2' })).toEqual({ as: 'error' });
    expect(handled).toEqual(['e1', 'e2']);
  });
});
