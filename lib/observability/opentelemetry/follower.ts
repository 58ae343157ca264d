import {
  context,
  SpanKind,
  SpanStatusCode,
  trace,
  type Attributes,
  type Meter,
  type Span,
  type Tracer,
} from '@opentelemetry/api';
import type { OccurrenceEvent, TerminalEvent } from '../event-types.js';
import type { FollowedOperation, Follower, TelemetrySource } from '../telemetry.js';
import { Instruments } from './instruments.js';

const SYSTEM = { 'db.system.name': 'redis' } as const;

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
    const span = this.tracer.startSpan(name ? `${type} ${name}` : type, {
      root,
      kind: root ? SpanKind.CONSUMER : RUNS_WORK.has(type) ? SpanKind.INTERNAL : SpanKind.CLIENT,
      attributes: { ...SYSTEM, ...this.registration, ...this.namespace, ...operationOf(type, name) },
    });
    const within = trace.setSpan(context.active(), span);
    return {
      within: (body) => context.with(within, body),
      end: (event) => this.end(span, event),
    };
  }

  occurred(event: OccurrenceEvent): void {
    const { registration } = this;
    const attributes = attributesOf(event);
    // That of the operation; in the background there is none, or one that has ended.
    const span = trace.getActiveSpan();
    if (span?.isRecording()) span.addEvent(event.type, attributes);
    if (event.type === 'lease.lost') this.instruments.leaseLosses.add(1, { ...registration, ...attributes });
    else if (event.type === 'outcome.resolved')
      this.instruments.outcomesResolved.add(1, { ...registration, ...attributes });
  }

  roundTrip(command: string, durationMs: number, error: string | undefined): void {
    this.instruments.roundTripDuration.record(durationMs / 1_000, {
      ...SYSTEM,
      ...this.registration,
      'db.operation.name': command,
      ...(error !== undefined && { 'error.type': error }),
    });
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
    const { instruments, registration } = this;
    const attributes = attributesOf(event);
    if (event.error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR });
    span.setAttributes({ ...attributes, ...detailsOf(event) });
    span.end();

    const labels = { ...registration, ...attributes };
    instruments.operationDuration.record(event.durationMs / 1_000, labels);
    if (event.type === 'transactions.run') {
      instruments.attempts.record(event.attempts, labels);
      if (event.conflicts > 0) instruments.conflicts.add(event.conflicts, labels);
    } else if (event.type === 'idempotency.duplicate') {
      const counter = event.outcome === 'replayed' ? instruments.replays : instruments.duplicates;
      counter.add(1, labels);
    }
  }
}

/** `counters.add` is the operation `add` of the pattern `counters`. */
function operationOf(type: string, name: string | undefined): Attributes {
  const [pattern = '', operation = ''] = type.split('.');
  return {
    'atomic_redis.pattern': pattern,
    'atomic_redis.operation': operation,
    ...(name ? { 'atomic_redis.name': name } : {}),
  };
}

/** Of few values each, so fit for metrics. */
function attributesOf(event: TerminalEvent | OccurrenceEvent): Attributes {
  const { type } = event;
  const attributes: Attributes = {};
  if (type === 'lease.lost') {
    Object.assign(attributes, { 'atomic_redis.pattern': event.pattern });
    if (event.name) attributes['atomic_redis.name'] = event.name;
  } else if (type === 'outcome.resolved') attributes['db.operation.name'] = event.command;
  else if (type !== 'pool.wait') {
    const name = 'operation' in event ? event.operation : 'name' in event ? event.name : undefined;
    Object.assign(attributes, operationOf(type, name));
  }
  if ('outcome' in event) attributes['atomic_redis.outcome'] = event.outcome;
  if ('ended' in event) attributes['atomic_redis.ended'] = event.ended;
  if ('error' in event && event.error !== undefined) attributes['error.type'] = event.error;
  return attributes;
}

/** Of any value, so for spans only. */
function detailsOf(event: TerminalEvent): Attributes {
  const details: Attributes = {};
  if ('attempts' in event) {
    details['atomic_redis.attempts'] = event.attempts;
    details['atomic_redis.conflicts'] = event.conflicts;
  }
  if ('deliveries' in event) details['atomic_redis.deliveries'] = event.deliveries;
  if ('cached' in event) details['atomic_redis.cached'] = event.cached;
  return details;
}
