import type { OccurrenceEvent, OperationType, TerminalEvent } from './event-types.js';

/**
 * Receives the operations of registrations from their beginning, as traces and metrics need it.
 * `openTelemetry()` makes one.
 */
export interface Telemetry {
  /** Called once for each registration, when its services are made. */
  attach(source: TelemetrySource): TelemetryReporter;
}

/** The registration that reports. @inline */
export interface TelemetrySource {
  readonly registration: string;
  readonly namespace: string;
  /**
   * Returns true for a queue that the application declares, by `@QueueConsumer` or the module's
   * `queues.names`. Other queues may be named at run time, and each would be a metric series of its
   * own.
   */
  readonly isDeclaredQueue: (name: string) => boolean;
}

/**
 * Receives the operations of one registration. An error that it throws is logged and changes
 * nothing.
 */
export interface TelemetryReporter {
  /**
   * Called when an operation begins.
   * @param name of the idempotent operation, the script or the queue
   * @param job that is processed
   */
  begin(type: OperationType | 'idempotency.run', name: string | undefined, job?: JobSpan): OperationSpan;
  /**
   * Returns the trace context of the calling code. It goes with the jobs that this code pushes, as
   * text of letters, digits and `-_.!~*'()%`.
   */
  trace?(): string | undefined;
  /** Called inside the operation in which the event happens. */
  occurred(event: OccurrenceEvent): void;
  /** Called when a command or script was answered, or failed with the error of that name. */
  roundTrip(command: string, durationMs: number, error: string | undefined): void;
  /** Called when a transaction has got a connection. */
  poolWait(durationMs: number): void;
  /** Called when operations on counters leave together. */
  batch(size: number): void;
}

/** A job that is processed. @inline */
export interface JobSpan {
  readonly id: string;
  /** The text that {@link TelemetryReporter.trace} returned when the job was pushed, or ''. */
  readonly trace: string;
}

/** An operation under way, as a reporter sees it. @inline */
export interface OperationSpan {
  /** Calls `body`, once, as a part of the operation. */
  within<T>(body: () => T): T;
  /** Called once. */
  end(event: TerminalEvent): void;
}
