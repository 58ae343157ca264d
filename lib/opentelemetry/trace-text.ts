import { createTraceState, isSpanContextValid, type Link, type SpanContext } from '@opentelemetry/api';

/**
 * The longest `tracestate` that goes with a job, in characters: the W3C recommendation asks to pass
 * on at least this.
 */
const MAX_STATE = 512;

/** A `traceparent` of the W3C's Trace Context, and behind a `~` the `tracestate`, escaped. */
const TEXT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:~(.*))?$/;

/** Writes a span's context as text that can go with a job. Undefined where there is no span. */
export function traceTextOf(span: SpanContext | undefined): string | undefined {
  if (!span || !isSpanContextValid(span)) return undefined;
  const flags = span.traceFlags.toString(16).padStart(2, '0');
  const state = span.traceState?.serialize() ?? '';
  const escaped = state !== '' && state.length <= MAX_STATE ? `~${encodeURIComponent(state)}` : '';
  return `00-${span.traceId}-${span.spanId}-${flags}${escaped}`;
}

/** Links to the span that {@link traceTextOf} wrote. Undefined for any other text. */
export function linkOf(text: string): Link | undefined {
  const [, traceId, spanId, flags, state] = TEXT.exec(text) ?? [];
  if (!traceId || !spanId) return undefined;
  const context = { traceId, spanId, traceFlags: Number.parseInt(flags!, 16), isRemote: true };
  if (!isSpanContextValid(context)) return undefined;
  return {
    context: state ? { ...context, traceState: createTraceState(decodeURIComponent(state)) } : context,
  };
}
