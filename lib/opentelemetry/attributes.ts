import type { Attributes } from '@opentelemetry/api';
import type { OccurrenceEvent, TerminalEvent } from '../observability/event-types.js';

export const SYSTEM = { 'db.system.name': 'redis' } as const;

/** The most sets of attributes that are kept. Only names that are made at run time lead to more. */
const MAX_KEPT = 2_000;

/**
 * Keeps attributes that many operations share. Making them is the largest part of the cost of
 * telemetry.
 */
export class KeptAttributes {
  private readonly kept = new Map<string, Attributes>();

  of(id: string, make: () => Attributes): Attributes {
    let attributes = this.kept.get(id);
    if (!attributes) {
      if (this.kept.size >= MAX_KEPT) this.kept.clear();
      this.kept.set(id, (attributes = make()));
    }
    return attributes;
  }
}

/** Splits a type: `counters.add` is the operation `add` of the pattern `counters`. */
export function operationOf(type: string, name: string | undefined): Attributes {
  const [pattern = '', operation = ''] = type.split('.');
  return {
    'atomic_redis.pattern': pattern,
    'atomic_redis.operation': operation,
    ...(name ? { 'atomic_redis.name': name } : {}),
  };
}

/** The kinds of operation that the conventions for messaging know. */
const MESSAGING: Readonly<Record<string, string>> = {
  'queues.push': 'send',
  'queues.pushMany': 'send',
  'queues.take': 'receive',
  'queues.process': 'process',
  'queues.ack': 'settle',
  'queues.ackAndTakeNext': 'settle',
  'queues.retry': 'settle',
};

/** The attributes of an operation on a queue by the semantic conventions for messaging. */
export function messagingOf(type: string, name: string | undefined): Attributes | undefined {
  const kind = MESSAGING[type];
  return kind === undefined
    ? undefined
    : {
        'messaging.system': 'redis',
        'messaging.operation.name': type,
        'messaging.operation.type': kind,
        ...(name ? { 'messaging.destination.name': name } : {}),
      };
}

/** The name of the idempotent operation, the script or the queue. */
export const eventNameOf = (event: TerminalEvent): string | undefined =>
  'operation' in event ? event.operation : 'name' in event ? event.name : undefined;

/** Attributes of few values each. They are fit for metrics if the name is. */
export function endOf(event: TerminalEvent, name: string | undefined): Attributes {
  const attributes = operationOf(event.type, name);
  if ('outcome' in event) attributes['atomic_redis.outcome'] = event.outcome;
  if ('ended' in event) attributes['atomic_redis.ended'] = event.ended;
  if (event.error !== undefined) attributes['error.type'] = event.error;
  return attributes;
}

/** Attributes of any value, for spans only. */
export function detailsOf(event: TerminalEvent): Attributes | undefined {
  if (event.type === 'transactions.run')
    return { 'atomic_redis.attempts': event.attempts, 'atomic_redis.conflicts': event.conflicts };
  if (event.type === 'queues.process') return { 'atomic_redis.deliveries': event.deliveries };
  if (event.type === 'idempotency.duplicate') return { 'atomic_redis.cached': event.cached };
  return undefined;
}

/** @param isNamed false for a name that was made at run time, which is left out */
export function occurrenceOf(event: OccurrenceEvent, isNamed: boolean): Attributes {
  if (event.type === 'pool.wait') return {};
  if (event.type === 'outcome.resolved')
    return { 'db.operation.name': event.command, 'atomic_redis.outcome': event.outcome };
  if (event.type === 'steps.unused')
    return {
      ...(event.name && { 'atomic_redis.name': event.name }),
      'atomic_redis.steps': event.steps.join(', '),
    };
  const { pattern, name, error } = event;
  return {
    'atomic_redis.pattern': pattern,
    ...(name && isNamed && { 'atomic_redis.name': name }),
    'error.type': error,
  };
}
