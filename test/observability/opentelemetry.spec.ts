import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Controller, Logger, Post } from '@nestjs/common';
import { context, createTraceState, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { ReadableSpan } from '@opentelemetry/sdk-trace';
import { Idempotent } from 'nestjs-atomic-redis';
import { openTelemetry } from 'nestjs-atomic-redis/opentelemetry';
import { PLATFORMS, send, startApp } from '../idempotency/http-app.js';
import { waitFor } from '../support/wait-for.js';
import { useSdk } from './sdk.js';
import { isTerminal, useObserved } from './support.js';

const PAGE = readFileSync(join(__dirname, '../../docs/telemetry.md'), 'utf8');

/** First cells of the table behind a heading, without their quotes. */
const tableOf = (heading: string): string[][] =>
  PAGE.split(`\n${heading}\n`)[1]!
    .split(/\n#+ /)[0]!
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|').map((cell) => cell.trim()));

const quoted = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, name]) => name!);

/** The items of the list of metrics: "- `name` (kind, `unit`): meaning. Attributes: `a`, `b`." */
const metricsOfPage = (): { name: string; unit: string; attributes: string[] }[] =>
  PAGE.split('\n### Metrics\n')[1]!
    .split(/\n#+ /)[0]!
    .split(/\n(?=- |\n)/)
    .filter((item) => item.startsWith('- `'))
    .map((item) => {
      const [name, unit] = quoted(item) as [string, string];
      return { name, unit, attributes: quoted(item.split('Attributes:')[1] ?? '') };
    });

class NotEnough extends Error {}

describe('OpenTelemetry', () => {
  const sdk = useSdk();
  const observed = useObserved();
  const start = () => observed.start({ telemetry: openTelemetry() });
  const tracer = trace.getTracer('application');
  const exec = { match: ({ name }: { name: string }) => name === 'EXEC' };

  const spanNamed = (name: string): ReadableSpan => {
    const found = sdk.spans.filter((span) => span.name === name);
    expect(found).toHaveLength(1);
    return found[0]!;
  };
  const isBelow = (child: ReadableSpan, parent: ReadableSpan): boolean =>
    child.parentSpanContext?.spanId === parent.spanContext().spanId &&
    child.spanContext().traceId === parent.spanContext().traceId;
  /** A span of the application's own. */
  const own = <T>(name: string, work: () => T): T =>
    tracer.startActiveSpan(name, (span) => {
      try {
        return work();
      } finally {
        span.end();
      }
    });

  it('[OBS-4] has a span for each operation, and the application’s own spans below it', async () => {
    const { redis } = await start();
    await tracer.startActiveSpan('request', async (request) => {
      await redis.idempotency.run(
        'raw-key',
        async () => {
          own('in the run', () => 1);
          await redis.transactions.run(['raw-key'], async (tx) => {
            own('in the transaction', () => 1);
            await tx.read.get('raw-key');
            tx.write.set('raw-key', 1);
          });
          return await redis.counters.add('raw-n', 1);
        },
        { operation: 'orders.create' },
      );
      request.end();
    });
    const [request, run] = [spanNamed('request'), spanNamed('idempotency.run orders.create')];
    const [transaction, add] = [spanNamed('transactions.run'), spanNamed('counters.add')];
    // A busy machine may need a second attempt of the transaction.
    expect(new Set(sdk.spans.map(({ name }) => name)).size).toBe(6);
    expect(sdk.spans.filter(({ name }) => name !== 'in the transaction')).toHaveLength(5);
    expect(isBelow(run, request)).toBe(true);
    expect(isBelow(spanNamed('in the run'), run)).toBe(true);
    expect(isBelow(transaction, run)).toBe(true);
    for (const inBody of sdk.spans.filter(({ name }) => name === 'in the transaction'))
      expect(isBelow(inBody, transaction)).toBe(true);
    expect(isBelow(add, run)).toBe(true);
    expect([run.kind, transaction.kind, add.kind]).toEqual([
      SpanKind.INTERNAL,
      SpanKind.INTERNAL,
      SpanKind.CLIENT,
    ]);
    expect(transaction.attributes).toEqual({
      'db.system.name': 'redis',
      'atomic_redis.registration': 'default',
      'atomic_redis.namespace': 'atomic:',
      'atomic_redis.pattern': 'transactions',
      'atomic_redis.operation': 'run',
      'atomic_redis.outcome': 'applied',
      'atomic_redis.attempts': 1,
      'atomic_redis.conflicts': 0,
    });
    expect(run.attributes).toMatchObject({
      'atomic_redis.name': 'orders.create',
      'atomic_redis.outcome': 'completed',
    });
    expect(run.status.code).toBe(SpanStatusCode.UNSET);
  });

  it('[OBS-4] shows a retried transaction as one span with its attempts, and an error by its kind', async () => {
    const { redis } = await start();
    let attempts = 0;
    await redis.transactions.run(['k'], async (tx) => {
      attempts = tx.attempt;
      await tx.read.get('k');
      if (tx.attempt < 3) await observed.server.client.append('k', 'x');
      tx.write.set('k', 1);
    });
    // A machine that stalls may make it begin again without a conflict.
    expect(spanNamed('transactions.run').attributes).toMatchObject({
      'atomic_redis.attempts': attempts,
      'atomic_redis.conflicts': expect.any(Number) as number,
    });
    const failing = () => {
      throw new NotEnough('raw-key');
    };
    await redis.idempotency.run('raw-key', failing).catch(() => undefined);
    const { status, attributes, events } = spanNamed('idempotency.run');
    expect(status).toEqual({ code: SpanStatusCode.ERROR });
    expect(attributes).toMatchObject({ 'error.type': 'NotEnough', 'atomic_redis.outcome': 'released' });
    expect(events).toEqual([]);
    await redis.reservations.hold('raw-n', 1, { ttlMs: 1_000 }).catch(() => undefined);
    expect(spanNamed('reservations.hold').attributes).toMatchObject({
      'error.type': 'COUNTER_LIMIT',
      'atomic_redis.outcome': 'not-applied',
    });
  });

  it('[OBS-4] shows intermediate happenings as events of the span in which they happen', async () => {
    const { redis } = await start();
    await redis.transactions.run(['k'], (tx) => void tx.write.incr('k'));
    observed.proxy.loseReplies(exec);
    await redis.transactions.run(['k'], (tx) => void tx.write.incr('k'));
    const resolved = sdk.spans[1]!.events.filter((event) => event.name !== 'pool.wait');
    expect(resolved).toMatchObject([
      {
        name: 'outcome.resolved',
        attributes: { 'db.operation.name': 'EXEC', 'atomic_redis.outcome': 'applied' },
      },
    ]);
    await redis.idempotency.run(
      'k',
      ({ signal }) => new Promise((resolve) => signal.addEventListener('abort', () => resolve(1))),
      { maxRunMs: 50 },
    );
    expect(spanNamed('idempotency.run').events).toMatchObject([
      { name: 'lease.lost', attributes: { 'error.type': 'RUN_TIMEOUT' } },
    ]);
  });

  it('[OBS-4] shows them in the span of each call that shares a script', async () => {
    const { redis } = await start();
    await redis.values.getAndSet('raw-key', '0');
    observed.proxy.loseReplies({ match: ({ name }: { name: string }) => name.startsWith('EVALSHA') });
    await Promise.all([redis.values.getAndSet('raw-key', '1'), redis.values.getAndSet('raw-key', '2')]);
    const names = sdk.spans.slice(1).map(({ events }) => events.map(({ name }) => name));
    expect(names).toEqual([['outcome.resolved'], ['outcome.resolved']]);
  });

  it('[OBS-4] shows a waiting duplicate as a span, and the run that it takes over as another', async () => {
    const { redis } = await start();
    let release!: () => void;
    const first = own('first', () =>
      redis.idempotency.run('k', () => new Promise((_, reject) => (release = () => reject(new Error('no'))))),
    );
    first.catch(() => undefined);
    await waitFor('the first to run', () => release !== undefined);
    const second = own('second', () =>
      redis.idempotency.run(
        'k',
        () => {
          own('in the second', () => 1);
          return 2;
        },
        { onDuplicate: 'wait' },
      ),
    );
    release();
    expect(await second).toBe(2);
    const runs = sdk.spans.filter(({ name }) => name === 'idempotency.run');
    expect(runs.map(({ attributes }) => attributes['atomic_redis.outcome'])).toEqual([
      'released',
      'completed',
    ]);
    expect(isBelow(runs[0]!, spanNamed('first'))).toBe(true);
    expect(isBelow(runs[1]!, spanNamed('second'))).toBe(true);
    expect(isBelow(spanNamed('in the second'), runs[1]!)).toBe(true);
  });

  it('[OBS-4] begins a new trace for a job, independent of its consumer’s start', async () => {
    const { redis } = await start();
    const mails = redis.queues.get('mails');
    await mails.push('raw-value');
    const consumer = own('start', () => mails.consume(() => own('in the job', () => 1)));
    await waitFor('the job', () => sdk.spans.some(({ name }) => name === 'queues.process mails'));
    await consumer.stop();
    const job = spanNamed('queues.process mails');
    expect(job.parentSpanContext).toBeUndefined();
    expect(job.kind).toBe(SpanKind.CONSUMER);
    expect(job.attributes).toMatchObject({
      'atomic_redis.ended': 'acknowledged',
      'atomic_redis.deliveries': 1,
    });
    expect(isBelow(spanNamed('in the job'), job)).toBe(true);
  });

  it('[OBS-7] links the span of a job to the span of its push, even after a retry', async () => {
    const { redis } = await start();
    const mails = redis.queues.get<string>('mails');
    const state = createTraceState('vendor=a:b|c,other=1');
    const request = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags: 1, traceState: state };
    await context.with(trace.setSpanContext(context.active(), request), async () => {
      await mails.push('one');
      await mails.pushMany(['two', 'three']);
    });
    let runs = 0;
    const consumer = mails.consume(() => {
      if (++runs === 1) throw new NotEnough();
    });
    await waitFor('all jobs', () => sdk.spans.filter(({ kind }) => kind === SpanKind.CONSUMER).length === 4);
    await consumer.stop();
    const [push, many] = [spanNamed('queues.push mails'), spanNamed('queues.pushMany mails')];
    expect([push.kind, many.kind]).toEqual([SpanKind.PRODUCER, SpanKind.PRODUCER]);
    expect(push.attributes).toMatchObject({
      'messaging.system': 'redis',
      'messaging.operation.name': 'queues.push',
      'messaging.operation.type': 'send',
      'messaging.destination.name': 'mails',
    });
    const jobs = sdk.spans.filter(({ kind }) => kind === SpanKind.CONSUMER);
    const linked = jobs.map(({ links }) => links.map(({ context: to }) => to.spanId).join());
    const idOf = (span: ReadableSpan) => span.spanContext().spanId;
    // A machine that stalls may retry the first ahead of the others.
    expect(linked.toSorted()).toEqual([push, many, many, push].map(idOf).toSorted());
    for (const job of jobs) {
      expect(job.parentSpanContext).toBeUndefined();
      expect(job.links[0]!.context).toMatchObject({ traceId: request.traceId, traceFlags: 1 });
      expect(job.links[0]!.context.traceState!.serialize()).toBe(state.serialize());
      expect(job.attributes).toMatchObject({ 'messaging.operation.type': 'process' });
      expect(job.attributes['messaging.message.id']).toMatch(/^[\w-]{22}$/);
    }
    // The metadata of the jobs disappears with them.
    expect(await observed.server.client.keys('atomic:queue:*')).toEqual([]);
  });

  it('[QU-29] links the span of a job that a transaction pushed to the place of the push', async () => {
    const { redis } = await start();
    const mails = redis.queues.get<string>('mails');
    await redis.transactions.run(['k'], (tx) => {
      own('in the transaction', () => tx.push(mails, 'one'));
    });
    const consumer = mails.consume(() => undefined);
    await waitFor('the job', () => sdk.spans.some(({ name }) => name === 'queues.process mails'));
    await consumer.stop();
    const [transaction, push] = [spanNamed('transactions.run'), spanNamed('queues.push mails')];
    expect(isBelow(push, transaction)).toBe(true);
    expect(push.kind).toBe(SpanKind.PRODUCER);
    const [link] = spanNamed('queues.process mails').links;
    expect(link!.context.spanId).toBe(spanNamed('in the transaction').spanContext().spanId);
    expect(await observed.server.client.keys('atomic:queue:*')).toEqual([]);
  });

  it('[OBS-7] distinguishes in metrics only the queues that the application declares', async () => {
    const { redis } = await observed.start({ telemetry: openTelemetry(), queues: { names: ['declared'] } });
    for (const name of ['declared', ...Array.from({ length: 50 }, (_, i) => `user-${i}`)]) {
      await redis.queues.get(name).push(1);
    }
    const named = (await sdk.metrics())
      .flatMap(({ dataPoints }) => dataPoints.map(({ attributes }) => attributes['atomic_redis.name']))
      .filter((name) => /^(declared|user-)/.test(String(name)));
    expect(new Set(named)).toEqual(new Set(['declared']));
  });

  it('[OBS-4] receives everything that the documentation names, without any key or value', async () => {
    const { redis } = await observed.start({
      telemetry: openTelemetry(),
      transactions: { maxConnections: 1 },
      idempotency: { replayCache: { maxBytes: 100_000 } },
    });
    const ignored = () => undefined;
    const disturbed = async (attempt: number): Promise<void> => {
      if (attempt === 1) await observed.server.client.append('raw-k', 'x');
    };
    await redis.transactions.run(['raw-k'], async (tx) => {
      await disturbed(tx.attempt);
      tx.write.set('raw-k', 1);
    });
    observed.proxy.loseReplies(exec);
    await redis.transactions.run(['raw-k'], (tx) => void tx.write.incr('raw-k'));
    const run = (work: () => unknown, options = {}) =>
      redis.idempotency.run('raw-key', work, { operation: 'orders.create', ...options }).catch(ignored);
    await run(() => run(() => 1));
    await run(() => 1);
    await run(() => 1, { fingerprint: 'raw-print' });
    await redis.idempotency.run('raw-other', () => new Promise((resolve) => setTimeout(resolve, 80)), {
      maxRunMs: 50,
    });
    await Promise.all([1, 2, 3].map((n) => redis.counters.add('raw-n', n)));
    await redis.counters.add('raw-n', 'raw-amount' as never).catch(ignored);
    await redis.counters.add('raw-k', 1, { min: 5 }).catch(ignored);
    await observed.server.client.lpush('raw-list', 'raw-value');
    await redis.counters.add('raw-list', 1).catch(ignored);
    const mails = redis.queues.get('mails');
    await mails.push('raw-value');
    const consumer = mails.consume(() => undefined);
    await waitFor('the job', () => sdk.spans.some(({ name }) => name === 'queues.process mails'));
    await consumer.stop();

    const received = await sdk.metrics();
    const documented = metricsOfPage();
    expect(documented).toHaveLength(10);
    for (const { name, unit } of documented) {
      const metric = received.find(({ descriptor }) => descriptor.name === name);
      expect({ name, unit: metric?.descriptor.unit }).toEqual({ name, unit });
      expect(metric!.dataPoints.length).toBeGreaterThan(0);
    }
    expect(received.map(({ descriptor }) => descriptor.name).toSorted()).toEqual(
      documented.map(({ name }) => name).toSorted(),
    );

    const attributes = (groups: readonly { readonly attributes: object }[]): Set<string> =>
      new Set(groups.flatMap((group) => Object.keys(group.attributes)));
    const onSpans = tableOf('### Spans').flatMap(([, name]) => quoted(name!));
    expect([...attributes(sdk.spans)].toSorted()).toEqual(onSpans.toSorted());
    const onMetrics = new Set(documented.flatMap((metric) => metric.attributes));
    for (const name of attributes(received.flatMap(({ dataPoints }): { attributes: object }[] => dataPoints)))
      expect([...onMetrics, 'atomic_redis.registration']).toContain(name);

    const told = JSON.stringify([
      sdk.spans.map(({ name, attributes: own_, events, status }) => [name, own_, events, status]),
      received,
    ]);
    expect(told).toContain('orders.create');
    expect(told).not.toMatch(/raw-/);
  });

  it('[OBS-4] distinguishes two registrations', async () => {
    const both = [await start(), await observed.start({ telemetry: openTelemetry(), namespace: 'other:' })];
    for (const { redis } of both) await redis.counters.add('n', 1);
    expect(sdk.spans.map(({ attributes }) => attributes['atomic_redis.namespace'])).toEqual([
      'atomic:',
      'other:',
    ]);
  });

  it.each(PLATFORMS)(
    '[OBS-4] puts the handler’s own span below the run’s on a route of %s',
    async (platform) => {
      @Controller()
      class LikesController {
        @Post('likes')
        @Idempotent({ operation: 'likes.create' })
        create(): string {
          return own('in the handler', () => 'liked');
        }
      }
      const options = { connection: observed.proxy.url, telemetry: openTelemetry() };
      const http = await startApp(platform, options, { controllers: [LikesController] });
      const post = () => send(http, '/likes', { headers: { 'idempotency-key': 'raw-key' } });
      try {
        await post();
        await waitFor('the run', () => sdk.spans.length === 2);
        const run = spanNamed('idempotency.run likes.create');
        expect(run.attributes).toMatchObject({ 'atomic_redis.outcome': 'completed' });
        expect(isBelow(spanNamed('in the handler'), run)).toBe(true);
        expect((await post()).replayed).toBe(true);
        await waitFor('the replay', () => sdk.spans.length === 3);
        expect(sdk.spans[2]!.attributes).toMatchObject({
          'atomic_redis.operation': 'duplicate',
          'atomic_redis.outcome': 'replayed',
          'atomic_redis.cached': false,
        });
      } finally {
        await http.app.close();
      }
    },
  );
});

describe('a telemetry that throws', () => {
  const observed = useObserved();

  it('[OBS-3] changes nothing', async () => {
    const fail = (): never => {
      throw new Error('from the telemetry');
    };
    const reporter = { begin: fail, occurred: fail, roundTrip: fail, poolWait: fail, batch: fail };
    const logged = jest.spyOn(Logger.prototype, 'error').mockImplementation();
    const ended = { within: <T>(body: () => T): T => body(), end: fail };
    for (const telemetry of [
      { attach: fail },
      { attach: () => reporter },
      { attach: () => ({ ...reporter, begin: () => ended }) },
    ]) {
      const { redis, events } = await observed.start({ telemetry });
      expect(await redis.counters.add('n', 1)).toMatchObject({ applied: 1 });
      await redis.transactions.run(['k'], (tx) => void tx.write.incr('k'));
      expect(await redis.idempotency.run('k', () => 1)).toBe(1);
      await waitFor('the events', () => events.filter(isTerminal).length === 3);
    }
    expect(logged).toHaveBeenCalledWith(
      'The telemetry threw; the operation goes on without it',
      expect.any(Error),
    );
    logged.mockRestore();
  });

  it('[OBS-3] runs an operation once and returns its result, whatever the telemetry does around it', async () => {
    const logged = jest.spyOn(Logger.prototype, 'error').mockImplementation();
    const fail = (): never => {
      throw new Error('from the telemetry');
    };
    const ways: ((body: () => unknown) => unknown)[] = [
      fail,
      (body) => (body(), fail()),
      () => undefined,
      (body) => void body(),
      (body) => [body(), body()][1],
      async (body) => await body(),
      async (body) => (await Promise.resolve(), body()),
    ];
    for (const way of ways) {
      await observed.server.client.flushall();
      const within = way as <T>(body: () => T) => T;
      const { redis } = await observed.start({
        telemetry: {
          attach: () => ({
            begin: () => ({ within, end: () => undefined }),
            occurred: () => undefined,
            roundTrip: () => undefined,
            poolWait: () => undefined,
            batch: () => undefined,
          }),
        },
      });
      expect(await redis.counters.add('n', 1)).toMatchObject({ value: 1 });
      expect(await redis.counters.get('n')).toBe(1);
      const refused = new Error('of the work');
      await expect(redis.transactions.run(['k'], () => Promise.reject(refused))).rejects.toBe(refused);
    }
    logged.mockRestore();
  });
});
