import { context, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { Attributes, Link, Meter, Span, Tracer } from '@opentelemetry/api';
import type { OccurrenceEvent, TerminalEvent } from '../observability/event-types.js';
import type {
  JobSpan,
  OperationSpan,
  TelemetryReporter,
  TelemetrySource,
} from '../observability/telemetry.js';
import {
  detailsOf,
  endOf,
  KeptAttributes,
  messagingOf,
  eventNameOf,
  occurrenceOf,
  operationOf,
  SYSTEM,
} from './attributes.js';
import { instrumentsOf, type Instruments } from './instruments.js';
import { linkOf, traceTextOf } from './trace-text.js';

/** Operations that run the application's code. All others are calls of a client. */
const RUNS_WORK: ReadonlySet<string> = new Set([
  'transactions.run',
  'idempotency.run',
  'shadowKeys.replace',
  'shadowKeys.replaceAll',
]);

/** Operations that hand work on. The span of the work is linked to theirs. */
const PRODUCES: ReadonlySet<string> = new Set(['queues.push', 'queues.pushMany']);

/** Makes a span for each operation, active while it runs, and records the metrics. */
export class OpenTelemetryReporter implements TelemetryReporter {
  private readonly instruments: Instruments;
  private readonly registration: Attributes;
  private readonly namespace: Attributes;
  private readonly begun = new KeptAttributes();
  private readonly ended = new KeptAttributes();
  private readonly measured = new KeptAttributes();
  private readonly sent = new KeptAttributes();
  private readonly isDeclaredQueue: (name: string) => boolean;

  constructor(
    private readonly tracer: Tracer,
    meter: Meter,
    { registration, namespace, isDeclaredQueue }: TelemetrySource,
  ) {
    this.isDeclaredQueue = isDeclaredQueue;
    this.instruments = instrumentsOf(meter);
    this.registration = { 'atomic_redis.registration': registration };
    this.namespace = { 'atomic_redis.namespace': namespace };
  }

  begin(type: string, name: string | undefined, job?: JobSpan): OperationSpan {
    // A job belongs to no request of this process, so it begins a trace.
    const root = type === 'queues.process';
    const spanName = name ? `${type} ${name}` : type;
    const kept = this.begun.of(spanName, () => ({
      ...SYSTEM,
      ...this.registration,
      ...this.namespace,
      ...operationOf(type, name),
      ...messagingOf(type, name),
    }));
    const attributes = job ? { ...kept, 'messaging.message.id': job.id } : kept;
    const link = job && linkOf(job.trace);
    const links: Link[] = link ? [link] : [];
    const span = this.tracer.startSpan(spanName, { root, kind: kindOf(type), attributes, links });
    const within = trace.setSpan(context.active(), span);
    return {
      within: (body) => context.with(within, body),
      end: (event) => this.end(span, event),
    };
  }

  trace(): string | undefined {
    return traceTextOf(trace.getSpanContext(context.active()));
  }

  occurred(event: OccurrenceEvent): void {
    const { instruments, registration } = this;
    // The span of the operation. In the background there is none, or one that has ended.
    const span = trace.getActiveSpan();
    if (span?.isRecording()) span.addEvent(event.type, occurrenceOf(event, true));
    if (event.type === 'lease.lost') {
      const isNamed = event.pattern !== 'queues' || this.isDeclaredQueue(event.name);
      instruments.leaseLosses.add(1, { ...registration, ...occurrenceOf(event, isNamed) });
    } else if (event.type === 'outcome.resolved')
      instruments.outcomesResolved.add(1, { ...registration, ...occurrenceOf(event, true) });
  }

  roundTrip(command: string, durationMs: number, error: string | undefined): void {
    const attributes = this.sent.of(`${command} ${error}`, () => ({
      ...SYSTEM,
      ...this.registration,
      'db.operation.name': command,
      ...(error !== undefined && { 'error.type': error }),
    }));
    this.instruments.roundTripDuration.record(durationMs / 1_000, attributes);
  }

  poolWait(durationMs: number): void {
    this.instruments.poolWait.record(durationMs / 1_000, {
      ...this.registration,
      'db.client.connection.pool.name': 'transactions',
    });
  }

  batch(size: number): void {
    this.instruments.batchSize.record(size, this.registration);
  }

  private end(span: Span, event: TerminalEvent): void {
    const { instruments } = this;
    const { type, error } = event;
    const name = eventNameOf(event);
    const how = ['outcome' in event && event.outcome, 'ended' in event && event.ended, error].join('\0');
    const make = (named: string | undefined) => (): Attributes => ({
      ...this.registration,
      ...endOf(event, named),
    });
    const attributes = this.ended.of(`${type}\0${name}\0${how}`, make(name));
    if (span.isRecording()) {
      if (error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR });
      span.setAttributes(attributes);
      const details = detailsOf(event);
      if (details) span.setAttributes(details);
    }
    span.end();

    // Queues may be named at run time, and each name would be a metric series of its own.
    const isNamed = name === undefined || !type.startsWith('queues.') || this.isDeclaredQueue(name);
    const measured = isNamed ? attributes : this.measured.of(`${type}\0${how}`, make(undefined));
    instruments.operationDuration.record(event.durationMs / 1_000, measured);
    if (type === 'transactions.run') {
      instruments.attempts.record(event.attempts, attributes);
      if (event.conflicts > 0) instruments.conflicts.add(event.conflicts, attributes);
    } else if (type === 'idempotency.duplicate') {
      const counter = event.outcome === 'replayed' ? instruments.replays : instruments.duplicates;
      counter.add(1, attributes);
    }
  }
}

function kindOf(type: string): SpanKind {
  if (type === 'queues.process') return SpanKind.CONSUMER;
  if (PRODUCES.has(type)) return SpanKind.PRODUCER;
  return RUNS_WORK.has(type) ? SpanKind.INTERNAL : SpanKind.CLIENT;
}
