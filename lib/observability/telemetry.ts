import type { OccurrenceEvent, OperationType, TerminalEvent } from './event-types.js';

/** Follows the operations of registrations from their beginning, as traces and metrics need it. `openTelemetry()` makes one. */
export interface Telemetry {
  /** Called once for each registration, when its services are made. */
  attach(source: TelemetrySource): TelemetryReporter;
}

/** Whose operations are followed. */
export interface TelemetrySource {
  readonly registration: string;
  readonly namespace: string;
  /**
   * Whether a queue is one of the application's declared ones: of `@QueueConsumer`, or of the module's `queues.names`. Others may be named at run time, and would make a
   * series of metrics each.
   */
  readonly isDeclaredQueue: (name: string) => boolean;
}

/** What follows the operations of one registration. What it throws is logged and changes nothing. */
export interface TelemetryReporter {
  /**
   * An operation begins.
   * @param name of the idempotent operation, the script or the queue
   * @param job that is processed
   */
  begin(type: OperationType | 'idempotency.run', name: string | undefined, job?: JobSpan): OperationSpan;
  /** Returns the trace context of the calling code, which goes with the jobs that it pushes: text of letters, digits and `-_.!~*'()%`. */
  trace?(): string | undefined;
  /** Called as part of the operation that it happens in. */
  occurred(event: OccurrenceEvent): void;
  /** One command or script was answered, or failed with the error of that name. */
  roundTrip(command: string, durationMs: number, error: string | undefined): void;
  /** A transaction has got a connection. */
  poolWait(durationMs: number): void;
  /** Operations on counters travel together. */
  batch(size: number): void;
}

/** A job that is processed. */
export interface JobSpan {
  readonly id: string;
  /** What {@link TelemetryReporter.trace} returned when it was pushed, or ''. */
  readonly trace: string;
}

/** An operation under way, as its follower sees it. */
export interface OperationSpan {
  /** Calls `body`, once, as part of the operation. */
  within<T>(body: () => T): T;
  /** Called once. */
  end(event: TerminalEvent): void;
}
