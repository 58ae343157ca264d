import { Session } from 'node:inspector/promises';
import 'reflect-metadata';
import { Controller, Injectable, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';

const dist = new URL('../../dist/', import.meta.url);
const { AtomicRedisModule, CounterService, Idempotent, OptimisticRetry, InjectTransaction } = await import(
  new URL('lib/index.js', dist)
);
const { startRedisServer } = await import(new URL('lib/testing/index.js', dist));

/**
 * Runs one call of each way against a server of its own, and notes the files of lib/ whose
 * functions were called. The titles are those of the architecture's page. Each call runs once
 * before, so that what is made once does not count.
 */
export async function traceWays() {
  const server = await startRedisServer();
  const app = await NestFactory.create(appModule(server.url), { logger: false, abortOnError: false });
  const session = new Session();
  try {
    await app.listen(0, '127.0.0.1');
    session.connect();
    await session.post('Profiler.enable');
    await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
    const orders = `${await app.getUrl()}/orders`;
    let key = 0;
    const post = async () => {
      const response = await fetch(orders, {
        method: 'POST',
        headers: { 'Idempotency-Key': `key-${++key}` },
      });
      await response.text();
    };
    const accounts = app.get(Accounts);
    const counters = app.get(CounterService);
    const calls = [
      ['The way of a POST with @Idempotent', post],
      ['The way of a transaction', () => accounts.deposit(1)],
      ['The way of an addition', () => counters.add('visits', 1, { max: 1_000 })],
    ];
    const ways = [];
    for (const [title, call] of calls) {
      await call();
      await filesRun(session);
      await call();
      ways.push({ title, ran: await filesRun(session) });
    }
    return ways;
  } finally {
    session.disconnect();
    await app.close();
    await server.stop();
  }
}

/** Returns the files of lib/ with a function that was called since this was last asked. */
async function filesRun(session) {
  const { result } = await session.post('Profiler.takePreciseCoverage');
  const base = new URL('lib/', dist).href;
  return result
    .filter(
      ({ url, functions }) => url.startsWith(base) && functions.some(({ ranges }) => ranges[0].count > 0),
    )
    .map(({ url }) => `lib/${url.slice(base.length).replace(/\.js$/, '.ts')}`)
    .toSorted();
}

class Orders {
  create() {
    return { id: 1 };
  }
}

class Accounts {
  constructor(tx) {
    this.tx = tx;
  }

  async deposit(amount) {
    const balance = Number(await this.tx.read.get('balance'));
    this.tx.write.set('balance', balance + amount);
  }
}

decorate(Orders, 'create', [Post(), Idempotent()]);
decorate(Accounts, 'deposit', [OptimisticRetry({ watch: 'balance' })]);
Controller('orders')(Orders);
Injectable()(Accounts);
InjectTransaction()(Accounts, undefined, 0);

function appModule(connection) {
  class TracedModule {}
  Module({
    imports: [AtomicRedisModule.forRoot({ connection, namespace: 'trace:' })],
    controllers: [Orders],
    providers: [Accounts],
  })(TracedModule);
  return TracedModule;
}

/** Applies decorators to a method as TypeScript does: the last one first. */
function decorate(type, name, decorators) {
  const descriptor = Object.getOwnPropertyDescriptor(type.prototype, name);
  for (const decorator of decorators.toReversed()) decorator(type.prototype, name, descriptor);
  Object.defineProperty(type.prototype, name, descriptor);
}
