import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import { Controller, Injectable, Module, UseFilters } from '@nestjs/common';
import { Args, Field, GraphQLModule, ID, Int, Mutation, ObjectType, Query, Resolver } from '@nestjs/graphql';
import { MercuriusDriver, type MercuriusDriverConfig } from '@nestjs/mercurius';
import {
  ClientProxyFactory,
  EventPattern,
  MessagePattern,
  Payload,
  Transport,
  type ClientProxy,
} from '@nestjs/microservices';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { WsAdapter } from '@nestjs/platform-ws';
import { Test } from '@nestjs/testing';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { AtomicRedisExceptionFilter, AtomicRedisModule, Idempotent } from 'nestjs-atomic-redis';
import { firstValueFrom } from 'rxjs';
import { WebSocket } from 'ws';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate } from './support.js';

interface OrderPlaced {
  id: string;
  quantity: number;
}

const keyOf = (message: OrderPlaced): string => message.id;
const payloadOf = (message: OrderPlaced): unknown => message;

/** The common part of all handlers: they count, and wait at the gate. */
@Injectable()
class Work {
  readonly runs: Record<string, number> = {};
  gate: Promise<void> | undefined;

  async do(handler: string): Promise<number> {
    const run = (this.runs[handler] = (this.runs[handler] ?? 0) + 1);
    await this.gate;
    return run;
  }
}

/** A duplicate's answer while the first call runs, over any transport. */
const IN_FLIGHT = {
  message: 'A call with this idempotency key is still running',
  code: 'IDEMPOTENCY_IN_FLIGHT',
  outcome: 'not-applied',
  retryable: true,
  retryAfterMs: expect.any(Number) as number,
};
const MISMATCH = { code: 'IDEMPOTENCY_MISMATCH', outcome: 'not-applied', retryable: false };

describe('idempotent handlers of messages', () => {
  const boot = useApp();
  const redis = useRedis();
  let close: () => unknown = () => undefined;

  afterEach(() => close());

  /** Sent twice while the first is running, then once more, then with another payload. */
  async function sendAgainAndAgain(
    work: Work,
    handler: string,
    send: (message: OrderPlaced) => Promise<unknown>,
  ): Promise<{ first: unknown; during: unknown; after: unknown; other: unknown }> {
    const { promise, resolve } = gate();
    work.gate = promise;
    const order = { id: 'order-1', quantity: 1 };
    const running = send(order);
    await waitFor('the handler', () => work.runs[handler] === 1);
    const during = await send(order);
    resolve();
    const first = await running;
    const after = await send(order);
    const other = await send({ ...order, quantity: 2 });
    expect(work.runs[handler]).toBe(1);
    return { first, during, after, other };
  }

  describe('of a microservice over TCP', () => {
    @Controller()
    class Shipping {
      constructor(private readonly work: Work) {}

      @MessagePattern('ship')
      @Idempotent({ operation: 'shipping.ship', key: keyOf, fingerprint: payloadOf })
      async ship(@Payload() { id }: OrderPlaced): Promise<object> {
        return { id, run: await this.work.do('ship') };
      }

      @EventPattern('order.placed')
      @Idempotent({ operation: 'shipping.onOrder', key: keyOf })
      async onOrder(@Payload() _message: OrderPlaced): Promise<void> {
        await this.work.do('shipping');
      }
    }

    @Controller()
    class Billing {
      constructor(private readonly work: Work) {}

      @EventPattern('order.placed')
      @Idempotent({ operation: 'billing.onOrder', key: keyOf })
      async onOrder(@Payload() _message: OrderPlaced): Promise<void> {
        await this.work.do('billing');
      }
    }

    let work: Work;
    let client: ClientProxy;

    beforeEach(async () => {
      const module = await Test.createTestingModule({
        imports: [AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' })],
        controllers: [Shipping, Billing],
        providers: [Work],
      }).compile();
      module.useLogger(false);
      const app = module.createNestMicroservice({
        transport: Transport.TCP,
        options: { host: '127.0.0.1', port: 0 },
      });
      await app.listen();
      const { port } = app.unwrap<Server>().address() as AddressInfo;
      client = ClientProxyFactory.create({ transport: Transport.TCP, options: { host: '127.0.0.1', port } });
      work = app.get(Work);
      close = async () => {
        client.close();
        await app.close();
      };
    });

    it('[ID-18] run once, and tell a duplicate about the run by the error object', async () => {
      const send = (message: OrderPlaced) =>
        firstValueFrom(client.send<unknown>('ship', message)).catch((error: unknown) => ({ error }));
      const { first, during, after, other } = await sendAgainAndAgain(work, 'ship', send);
      expect(first).toEqual({ id: 'order-1', run: 1 });
      expect(after).toEqual(first);
      expect(during).toEqual({ error: { status: 'error', ...IN_FLIGHT } });
      expect(other).toMatchObject({ error: MISMATCH });
    });

    it('[ID-18] handle an event once per consumer', async () => {
      const emit = (id: string) =>
        firstValueFrom(client.emit('order.placed', { id }), { defaultValue: null });
      for (let i = 0; i < 3; i++) await emit('order-1');
      await emit('order-2');
      await waitFor('both consumers', () => work.runs['shipping'] === 2 && work.runs['billing'] === 2);
      // Earlier messages on the connection have been handled by then.
      await firstValueFrom(client.send('ship', { id: 'last' }));
      expect(work.runs).toEqual({ shipping: 2, billing: 2, ship: 1 });
    });
  });

  describe('of a WebSocket gateway', () => {
    @WebSocketGateway()
    @UseFilters(AtomicRedisExceptionFilter)
    class ShippingGateway {
      constructor(private readonly work: Work) {}

      @SubscribeMessage('ship')
      @Idempotent({ operation: 'shipping.ship', key: keyOf, fingerprint: payloadOf })
      async ship(@MessageBody() { id }: OrderPlaced): Promise<object> {
        return { event: 'shipped', data: { id, run: await this.work.do('ship') } };
      }
    }

    it('[ID-18] run once, and tell a duplicate about the run by an exception message', async () => {
      const app = await boot.http(
        { connection: redis.server.url },
        {
          providers: [ShippingGateway, Work],
          configure: (nest) => {
            nest.useWebSocketAdapter(new WsAdapter(nest));
          },
        },
      );
      const { port } = (app.getHttpServer() as Server).address() as AddressInfo;
      const sockets: WebSocket[] = [];
      close = async () => {
        for (const socket of sockets) socket.close();
        await app.close();
      };
      // A connection for each message: a client that lost its connection sends it again on the
      // next.
      const send = async (data: OrderPlaced): Promise<unknown> => {
        const socket = new WebSocket(`ws://127.0.0.1:${port}`);
        sockets.push(socket);
        await once(socket, 'open');
        socket.send(JSON.stringify({ event: 'ship', data }));
        const [answer] = (await once(socket, 'message')) as [Buffer];
        return JSON.parse(answer.toString());
      };
      const { first, during, after, other } = await sendAgainAndAgain(app.get(Work), 'ship', send);
      expect(first).toEqual({ event: 'shipped', data: { id: 'order-1', run: 1 } });
      expect(after).toEqual(first);
      const cause = { pattern: 'ship', data: { id: 'order-1', quantity: 1 } };
      expect(during).toEqual({ event: 'exception', data: { status: 'error', ...IN_FLIGHT, cause } });
      expect(other).toMatchObject({ event: 'exception', data: MISMATCH });
    });
  });

  describe('of a GraphQL mutation', () => {
    @ObjectType()
    class Shipment {
      @Field(() => ID)
      id!: string;

      @Field(() => Int)
      run!: number;
    }

    @Resolver()
    class ShippingResolver {
      constructor(private readonly work: Work) {}

      @Query(() => Int)
      zero(): number {
        return 0;
      }

      @Mutation(() => Shipment)
      @Idempotent({
        operation: 'shipping.ship',
        key: (id: string) => id,
        fingerprint: (_id: string, quantity: number) => quantity,
      })
      async ship(
        @Args('id', { type: () => ID }) id: string,
        @Args('quantity', { type: () => Int }) _quantity: number,
      ): Promise<Shipment> {
        return { id, run: await this.work.do('ship') };
      }
    }

    it('[ID-18] run once, and tell a duplicate about the run by the extensions of the error', async () => {
      @Module({ providers: [ShippingResolver, Work] })
      class ShippingModule {}

      const app = await boot.http(
        { connection: redis.server.url },
        {
          imports: [
            GraphQLModule.forRoot<MercuriusDriverConfig>({ driver: MercuriusDriver, autoSchemaFile: true }),
            ShippingModule,
          ],
          adapter: new FastifyAdapter(),
        },
      );
      const url = `http://127.0.0.1:${((app.getHttpServer() as Server).address() as AddressInfo).port}/graphql`;
      close = () => app.close();
      const query = 'mutation ($id: ID!, $quantity: Int!) { ship(id: $id, quantity: $quantity) { id run } }';
      const send = async (variables: OrderPlaced): Promise<unknown> => {
        const response = await fetch(url, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ query, variables }),
        });
        return await response.json();
      };
      const { first, during, after, other } = await sendAgainAndAgain(app.get(Work), 'ship', send);
      expect(first).toEqual({ data: { ship: { id: 'order-1', run: 1 } } });
      expect(after).toEqual(first);
      const { message, ...extensions } = IN_FLIGHT;
      expect(during).toMatchObject({ data: null, errors: [{ message, path: ['ship'], extensions }] });
      expect(other).toMatchObject({ data: null, errors: [{ extensions: MISMATCH }] });
    });
  });
});
