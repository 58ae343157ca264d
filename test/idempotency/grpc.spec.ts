import path from 'node:path';
import { Controller, Module } from '@nestjs/common';
import { GrpcMethod, Transport } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { credentials, loadPackageDefinition, status, type Client, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import {
  AtomicRedisModule,
  Idempotent,
  OutcomeUnknownError,
  RedisUnavailableError,
  TransactionConflictError,
} from 'nestjs-atomic-redis';
import { freePort } from '../support/free-port.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { gate } from './support.js';

interface Payment {
  readonly key: string;
  readonly cents: number | string;
  readonly mode?: string;
}

class Receipt {
  constructor(
    readonly id: string,
    readonly cents: unknown,
    readonly receipt: Buffer,
  ) {}
}

const protoPath = path.join(__dirname, '../fixtures/payments.proto');

describe('handlers of calls over gRPC', () => {
  const redis = useRedis();
  let runs = 0;
  let held: Promise<void> | undefined;
  let failure: Error | undefined;
  let client: Client;
  let close: () => Promise<void>;

  @Controller()
  class Payments {
    @GrpcMethod('Payments', 'Pay')
    @Idempotent({
      key: (request: Payment) => request.key,
      fingerprint: (request: Payment) => String(request.cents),
      operation: 'payments.pay',
    })
    async pay(request: Payment): Promise<object> {
      runs++;
      await held;
      if (failure) throw failure;
      const [id, receipt] = [`p${runs}`, Buffer.from([0, 255, runs])];
      switch (request.mode) {
        case 'bigint':
          return { id, receipt, cents: BigInt(String(request.cents)) };
        case 'class':
          return new Receipt(id, request.cents, receipt);
        case 'negative':
          return { id, receipt, cents: '-9223372036854775808' };
        default:
          return { id, receipt, cents: request.cents };
      }
    }
  }

  beforeEach(async () => {
    runs = 0;
    held = failure = undefined;
    @Module({
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' })],
      controllers: [Payments],
    })
    class AppModule {}
    const module = await Test.createTestingModule({ imports: [AppModule] }).compile();
    module.useLogger(false);
    const url = `127.0.0.1:${await freePort()}`;
    const app = module.createNestMicroservice({
      transport: Transport.GRPC,
      options: { package: 'pay', protoPath, url },
    });
    await app.listen();
    const { pay } = loadPackageDefinition(loadSync(protoPath, { longs: String })) as unknown as {
      pay: { Payments: new (...args: unknown[]) => Client };
    };
    client = new pay.Payments(url, credentials.createInsecure());
    close = async () => {
      client.close();
      await app.close();
    };
  });

  afterEach(() => close());

  const pay = (payment: Payment): Promise<object> =>
    new Promise((resolve, reject) => {
      const { Pay } = client as unknown as {
        Pay(request: Payment, done: (error: ServiceError | null, reply: object) => void): void;
      };
      Pay.call(client, payment, (error, reply) => (error ? reject(error) : resolve(reply)));
    });

  const refusal = async (payment: Payment): Promise<object> => {
    const error = await pay(payment).then(
      () => undefined,
      (one: ServiceError) => one,
    );
    if (!error) throw new Error('it was not refused');
    const { 'content-type': _, date: __, ...metadata } = error.metadata.getMap();
    return { status: status[error.code], details: error.details, ...metadata };
  };

  it.each([
    ['a Long', 'plain', '9007199254740993'],
    ['a bigint', 'bigint', '9007199254740993'],
    ['the fields of a class', 'class', '5'],
    ['the least int64', 'negative', '5'],
  ])('[ID-42] replay a reply with bytes and int64: %s', async (_, mode, cents) => {
    const payment = { key: mode, cents, mode };
    const first = await pay(payment);
    expect(first).toMatchObject({
      id: 'p1',
      cents: mode === 'negative' ? '-9223372036854775808' : cents,
      receipt: Buffer.from([0, 255, 1]),
    });
    expect(await pay(payment)).toEqual(first);
    expect(runs).toBe(1);
  });

  it('[ID-42] tell a copy of a running call to retry later', async () => {
    const { promise, resolve } = gate();
    held = promise;
    const first = pay({ key: 'k', cents: 5 });
    await waitFor('the handler', () => runs === 1);
    expect(await refusal({ key: 'k', cents: 5 })).toEqual({
      status: 'ABORTED',
      details: 'A call with this idempotency key is still running',
      code: 'IDEMPOTENCY_IN_FLIGHT',
      outcome: 'not-applied',
      retryable: 'true',
      'retry-after': expect.stringMatching(/^\d+$/) as string,
      'grpc-retry-pushback-ms': expect.stringMatching(/^\d+$/) as string,
    });
    resolve();
    await first;
  });

  it('[ID-42] refuse another payload and a missing key with distinct errors', async () => {
    await pay({ key: 'k', cents: 5 });
    expect(await refusal({ key: 'k', cents: 6 })).toMatchObject({
      status: 'FAILED_PRECONDITION',
      code: 'IDEMPOTENCY_MISMATCH',
      retryable: 'false',
      'grpc-retry-pushback-ms': '-1',
    });
    expect(await refusal({ key: '', cents: 6 })).toMatchObject({
      status: 'INVALID_ARGUMENT',
      code: 'IDEMPOTENCY_KEY_INVALID',
    });
  });

  it.each([
    ['UNAVAILABLE', new RedisUnavailableError('away'), 'true'],
    ['ABORTED', new TransactionConflictError(['k'], 3, 10), 'true'],
    ['UNKNOWN', new OutcomeUnknownError('lost'), 'false'],
  ])('[ID-42] have a status for each kind of error: %s', async (expected, error, retryable) => {
    failure = error;
    expect(await refusal({ key: 'k', cents: 5 })).toMatchObject({
      status: expected,
      code: error.code,
      outcome: error.outcome,
      retryable,
    });
  });

  it('[ID-42] never invite a retry of a call whose outcome is unknown', async () => {
    failure = new OutcomeUnknownError('lost');
    await refusal({ key: 'k', cents: 5 });
    expect(await refusal({ key: 'k', cents: 5 })).toMatchObject({
      status: 'UNKNOWN',
      code: 'IDEMPOTENCY_OUTCOME_UNKNOWN',
      'grpc-retry-pushback-ms': '-1',
    });
    expect(runs).toBe(1);
  });
});
