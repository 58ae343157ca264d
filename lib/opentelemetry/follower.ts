import { context, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { Attributes, Meter, Span, Tracer } from '@opentelemetry/api';
import type { OccurrenceEvent, TerminalEvent } from '../observability/event-types.js';
import type { FollowedOperation, Follower, TelemetrySource } from '../observability/telemetry.js';
import { detailsOf, endOf, KeptAttributes, nameOf, occurrenceOf, operationOf, SYSTEM } from './attributes.js';
import { Instruments } from './instruments.js';

/** Operations that run code of the application's own. Whatever else there is, is a client's call. */
const RUNS_WORK: ReadonlySet<string> = new Set([
  'transactions.run',
  'idempotency.run',
  'shadowKeys.replace',
  'shadowKeys.replaceAll',
]);

/** A span for each operation, active while it runs, and metrics. */
export class OpenTelemetryFollower implements Follower {
  private readonly instruments: Instruments;
  private readonly registration: Attributes;
  private readonly namespace: Attributes;
  private readonly begun = new KeptAttributes();
  private readonly ended = new KeptAttributes();
  private readonly sent = new KeptAttributes();

  constructor(
    private readonly tracer: Tracer,
    meter: Meter,
    { registration, namespace }: TelemetrySource,
  ) {
    this.instruments = new Instruments(meter);
    this.registration = { 'atomic_redis.registration': registration };
    this.namespace = { 'atomic_redis.namespace': namespace };
  }

  begin(type: string, name: string | undefined): FollowedOperation {
    // Of a job: it belongs to no request of this process, whoever started the consumer.
    const root = type === 'queues.process';
    const spanName = name ? `${type} ${name}` : type;
    const attributes = this.begun.of(spanName, () => ({
      ...SYSTEM,
      ...this.registration,
      ...this.namespace,
      ...operationOf(type, name),
    }));
    const kind = root ? SpanKind.CONSUMER : RUNS_WORK.has(type) ? SpanKind.INTERNAL : SpanKind.CLIENT;
    const span = this.tracer.startSpan(spanName, { root, kind, attributes });
    const within = trace.setSpan(context.active(), span);
    return {
      within: (body) => context.with(within, body),
      end: (event) => this.end(span, event),
    };
  }

  occurred(event: OccurrenceEvent): void {
    const { instruments, registration } = this;
    const attributes = occurrenceOf(event);
    // That of the operation; in the background there is none, or one that has ended.
    const span = trace.getActiveSpan();
    if (span?.isRecording()) span.addEvent(event.type, attributes);
    if (event.type === 'lease.lost') instruments.leaseLosses.add(1, { ...registration, ...attributes });
    else if (event.type === 'outcome.resolved')
      instruments.outcomesResolved.add(1, { ...registration, ...attributes });
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
    const how = [type, nameOf(event), 'outcome' in event && event.outcome, 'ended' in event && event.ended];
    const attributes = this.ended.of([...how, error].join('\0'), () => ({
      ...this.registration,
      ...endOf(event),
    }));
    if (span.isRecording()) {
      if (error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR });
      span.setAttributes(attributes);
      const details = detailsOf(event);
      if (details) span.setAttributes(details);
    }
    span.end();

    instruments.operationDuration.record(event.durationMs / 1_000, attributes);
    if (type === 'transactions.run') {
      instruments.attempts.record(event.attempts, attributes);
      if (event.conflicts > 0) instruments.conflicts.add(event.conflicts, attributes);
    } else if (type === 'idempotency.duplicate') {
      const counter = event.outcome === 'replayed' ? instruments.replays : instruments.duplicates;
      counter.add(1, attributes);
    }
  }
}
