/**
 * What events and telemetry cost, in CPU time of this process: `node scripts/build.mjs && node bench/telemetry.mjs`.
 * The ways are measured in turns, and the median of the rounds is printed, so that a machine that is busy for a while disturbs all alike.
 */
import { context, metrics, trace } from '@opentelemetry/api';
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { TracerProvider } from '@opentelemetry/sdk-trace';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { NestFactory } from '@nestjs/core';
import { AtomicRedis, AtomicRedisEvents, AtomicRedisModule } from 'nestjs-atomic-redis';
import { openTelemetry } from 'nestjs-atomic-redis/opentelemetry';
import { startRedisServer } from 'nestjs-atomic-redis/testing';
import { Observer } from '../dist/lib/observability/observer.js';

const cpuNs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1_000;
};

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];

/** @param ways name to what runs it so many times */
async function compare(title, ways, { rounds, times }) {
  const spent = Object.fromEntries(Object.keys(ways).map((name) => [name, []]));
  for (let round = -2; round < rounds; round++) {
    for (const [name, way] of Object.entries(ways)) {
      const from = cpuNs();
      await way(times);
      if (round >= 0) spent[name].push((cpuNs() - from) / times);
    }
  }
  console.log(`\n${title}`);
  const [first] = Object.values(spent).map(median);
  for (const [name, all] of Object.entries(spent)) {
    const ns = median(all);
    console.log(
      `  ${name.padEnd(34)} ${ns.toFixed(0).padStart(8)} ns  ${(ns - first >= 0 ? '+' : '') + (ns - first).toFixed(0)}`,
    );
  }
}

const observer = new Observer(new AtomicRedisEvents(), 'bench', { namespace: 'atomic:' });
const work = async () => 1;
await compare(
  'An operation that does nothing',
  {
    'the work alone': async (times) => {
      for (let i = 0; i < times; i++) await work();
    },
    'observed, nobody listens': async (times) => {
      for (let i = 0; i < times; i++) await observer.operation('counters.add', () => work());
    },
  },
  { rounds: 25, times: 400_000 },
);

const server = await startRedisServer();
const started = [];
async function adds(options, prepare = () => undefined) {
  const app = await NestFactory.createApplicationContext(
    { module: class Bench {}, imports: [AtomicRedisModule.forRoot({ connection: server.url, ...options })] },
    { logger: false },
  );
  started.push(app);
  const redis = app.get(AtomicRedis);
  prepare(redis);
  return async (times) => {
    for (let i = 0; i < times; i++) await redis.counters.add('n', 1);
  };
}
const TIMES = { rounds: 15, times: 3_000 };
await compare(
  'counters.add, one after the other, on a Redis of its own',
  {
    'nobody listens': await adds({}),
    'nobody listens, measured again': await adds({}),
    'one listener to the events': await adds({}, ({ events }) => events.subscribe(() => undefined)),
    'openTelemetry(), no SDK': await adds({ telemetry: openTelemetry() }),
  },
  TIMES,
);

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
trace.setGlobalTracerProvider(new TracerProvider());
const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }));
// Asynchronous context costs every promise of the process, whoever uses it.
const inRequest = (way) => (times) =>
  trace.getTracer('bench').startActiveSpan('request', (span) => way(times).finally(() => span.end()));
await compare(
  'The same inside a span of the application',
  {
    'without telemetry': inRequest(await adds({})),
    'openTelemetry(), all sampled': inRequest(await adds({ telemetry: openTelemetry() })),
  },
  TIMES,
);
await Promise.all(started.map((app) => app.close()));
await server.stop();
