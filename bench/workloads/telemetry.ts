import { context, metrics, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { TracerProvider } from '@opentelemetry/sdk-trace';
import {
  AtomicRedisEvents,
  CounterService,
  type AtomicRedisEvents as Events,
  type AtomicRedisOptions,
} from 'nestjs-atomic-redis';
import { openTelemetry } from 'nestjs-atomic-redis/opentelemetry';
import { startApp } from '../app.js';
import type { Contestant } from '../harness.js';
import type { Bench, Comparison } from '../workload.js';

async function adding(
  { url }: Bench,
  name: string,
  options: Partial<AtomicRedisOptions> = {},
  prepare: (events: Events) => void = () => {},
): Promise<Contestant> {
  const app = await startApp(url, options);
  const counters = app.get(CounterService);
  prepare(app.get(AtomicRedisEvents));
  return { name, op: () => counters.add(name, 1), close: () => app.close() };
}

const ALONE = 'nobody listens';

export const telemetry: Comparison = {
  name: 'telemetry',
  title: 'Events and telemetry',
  about:
    'An addition to a counter, with somebody who listens and without. Measured twice where nobody does: what differs there is chance.',
  callers: [1],
  floor: ALONE,
  bars: [],
  start: (bench) =>
    Promise.all([
      adding(bench, ALONE),
      adding(bench, `${ALONE}, again`),
      adding(bench, 'one listener to the events', {}, (events) => void events.subscribe(() => {})),
      adding(bench, 'openTelemetry(), no SDK', { telemetry: openTelemetry() }),
    ]),
};

const UNTRACED = 'without telemetry';

/** To be run last: what it sets up is for the whole process, and costs every promise in it. */
export const tracing: Comparison = {
  name: 'tracing',
  title: 'Telemetry with an SDK',
  about: 'The same inside a span of the application, with the SDK of OpenTelemetry, all spans sampled.',
  callers: [1],
  floor: UNTRACED,
  bars: [],
  async start(bench) {
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
    trace.setGlobalTracerProvider(new TracerProvider());
    const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
    const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
    metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }));
    const contestants = await Promise.all([
      adding(bench, UNTRACED),
      adding(bench, 'openTelemetry(), all sampled', { telemetry: openTelemetry() }),
    ]);
    const tracer = trace.getTracer('bench');
    return contestants.map(({ op, ...rest }) => ({
      ...rest,
      op: (n: number) => tracer.startActiveSpan('request', (span) => op(n).finally(() => span.end())),
    }));
  },
};
