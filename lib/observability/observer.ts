import { Inject, Injectable, Logger } from '@nestjs/common';
import { OPTIONS, REGISTRATION_NAME } from '../atomic-redis.constants.js';
import { AtomicRedisError, type Outcome } from '../atomic-redis.errors.js';
import { AtomicRedisEvents } from './events.js';
import type { OccurrenceEvent, OperationType, TerminalEvent } from './event-types.js';
import type { JobSpan, OperationSpan, TelemetryReporter, Telemetry } from './telemetry.js';

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** A terminal event without the fields that the observer adds. */
export type Ending = DistributiveOmit<TerminalEvent, 'registration' | 'durationMs'>;
type Occurrence = DistributiveOmit<OccurrenceEvent, 'registration'>;

/** An operation under way, for code that ends it elsewhere. */
export interface ObservedCall {
  /** Runs `body` as a part of it. */
  within<T>(body: () => T): T;
  /** Reports its end. Every call after the first does nothing. */
  end(make: () => Ending): void;
}

/** Describes an operation beyond its type. */
export interface OperationReport<T> {
  /** The name of the queue or of the script. */
  readonly name?: string | undefined;
  /** Returns true if a call that resolved changed anything. Default: it did. */
  readonly changed?: (result: T) => boolean;
  /** Returns more fields of its event. Called when the operation ends. */
  readonly details?: () => object;
}

/** The report of an operation that only reads. */
export const READ = { changed: (): boolean => false } as const;

interface ObserverOptions {
  readonly telemetry?: Telemetry | undefined;
  readonly namespace: string;
  readonly queues?: { readonly names: readonly string[] };
}

/**
 * A transaction that waits longer than this for a connection is reported by an event, in
 * milliseconds.
 */
const LONG_POOL_WAIT_MS = 100;

const UNOBSERVED: ObservedCall = { within: (body) => body(), end: () => undefined };

/**
 * The one place where services report their calls: to listeners of `AtomicRedisEvents`, and to the
 * telemetry of the registration. Without either, a report costs one check.
 *
 * - {@link operation} reports a call whose promise is its end. Nearly all calls use it.
 * - {@link begin} is for an idempotent run and a job, which end elsewhere. `operation` is derived
 *   from it.
 * - {@link occurred}, {@link roundTrip}, {@link poolWaited} and {@link batch} report what happens
 *   within operations.
 */
@Injectable()
export class Observer {
  private readonly logger = new Logger('AtomicRedisTelemetry');
  private readonly reporter: TelemetryReporter | undefined;
  private readonly declaredQueues: Set<string>;

  constructor(
    private readonly events: AtomicRedisEvents,
    @Inject(REGISTRATION_NAME) private readonly registration: string,
    @Inject(OPTIONS)
    { telemetry, namespace, queues }: ObserverOptions,
  ) {
    this.declaredQueues = new Set(queues?.names);
    const isDeclaredQueue = (name: string): boolean => this.declaredQueues.has(name);
    this.reporter = this.quietly(() => telemetry?.attach({ registration, namespace, isDeclaredQueue }));
  }

  /** Gives the queue a metric series of its own. */
  declareQueue(name: string): void {
    this.declaredQueues.add(name);
  }

  /** True if anything receives reports. */
  get isWatching(): boolean {
    return this.reporter !== undefined || this.events.hasListeners;
  }

  /**
   * The trace context of the operation that the calling code is a part of, as text that can go with
   * a job.
   */
  get trace(): string | undefined {
    const { reporter } = this;
    const text = reporter && this.quietly(() => reporter.trace?.());
    // The text around it is divided by other characters.
    return text !== undefined && /^[\w.!~*'()%-]{1,4096}$/.test(text) ? text : undefined;
  }

  /** Runs `work`, and reports its end by one event. Without a listener it only calls `work`. */
  operation<T>(type: OperationType, work: () => Promise<T>, report?: OperationReport<T>): Promise<T> {
    return this.isWatching ? this.observed(type, work, report ?? {}) : work();
  }

  /** Begins an operation that ends elsewhere. @param job that is processed */
  begin(type: OperationType | 'idempotency.run', name?: string, job?: JobSpan): ObservedCall {
    if (!this.isWatching) return UNOBSERVED;
    const span = this.quietly(() => this.reporter?.begin(type, name, job));
    const startedAt = performance.now();
    let hasEnded = false;
    return {
      within: (body) => (span ? this.within(span, body) : body()),
      end: (make) => {
        if (hasEnded) return;
        hasEnded = true;
        this.ended(span, make(), performance.now() - startedAt);
      },
    };
  }

  /** Reports an event in the middle of an operation. */
  occurred(occurrence: Occurrence): void {
    if (!this.isWatching) return;
    const event = { ...occurrence, registration: this.registration };
    this.quietly(() => this.reporter?.occurred(event));
    this.events.emit(event);
  }

  /** Sends a command, and measures the time until its reply. */
  roundTrip<T>(command: string, send: () => Promise<T>): Promise<T> {
    const { reporter } = this;
    if (!reporter) return send();
    const sentAt = performance.now();
    const answered = (error?: string): void =>
      this.quietly(() => reporter.roundTrip(command.toUpperCase(), performance.now() - sentAt, error));
    const answer = send();
    answer.then(
      () => answered(),
      (error: unknown) => answered(replyName(error)),
    );
    return answer;
  }

  /**
   * Reports that a transaction has got its connection.
   * @param askedAt monotonic time at which it asked
   */
  poolWaited(askedAt: number): void {
    if (!this.isWatching) return;
    const waitedMs = performance.now() - askedAt;
    this.quietly(() => this.reporter?.poolWait(waitedMs));
    if (waitedMs > LONG_POOL_WAIT_MS) this.occurred({ type: 'pool.wait', waitedMs });
  }

  /** Reports the size of a batch of operations on counters. */
  batch(size: number): void {
    const { reporter } = this;
    if (reporter) this.quietly(() => reporter.batch(size));
  }

  private async observed<T>(
    type: OperationType,
    work: () => Promise<T>,
    { name, changed, details }: OperationReport<T>,
  ): Promise<T> {
    const operation = this.begin(type, name);
    const ended = (how: { outcome: Outcome; error?: string }): void =>
      operation.end(() => ({ type, ...(name !== undefined && { name }), ...how, ...details?.() }) as Ending);
    let result: T;
    try {
      result = await operation.within(work);
    } catch (error) {
      ended(failureOf(error));
      throw error;
    }
    ended({ outcome: changed?.(result) === false ? 'not-applied' : 'applied' });
    return result;
  }

  /** Runs `body` exactly once and returns its own result, whatever the reporter does. */
  private within<T>(span: OperationSpan, body: () => T): T {
    let ran: { value: T } | { error: unknown } | undefined;
    const once = (): T => {
      ran ??= attempt(body);
      if ('error' in ran) throw ran.error;
      return ran.value;
    };
    let made: unknown;
    this.quietly(() => {
      try {
        made = span.within<unknown>(once);
      } catch (error) {
        if (!ran || 'value' in ran) throw error;
      }
    });
    const own = once();
    // A promise of the reporter's own, which no code awaits.
    if (made !== own) void Promise.resolve(made).catch(() => undefined);
    return own;
  }

  private ended(span: OperationSpan | undefined, ending: Ending, durationMs: number): void {
    const event = { ...ending, registration: this.registration, durationMs };
    this.quietly(() => span?.end(event));
    this.events.emit(event);
  }

  private quietly<T>(step: () => T): T | undefined {
    try {
      return step();
    } catch (error) {
      this.logger.error('The telemetry threw; the operation goes on without it', error);
      return undefined;
    }
  }
}

function attempt<T>(body: () => T): { value: T } | { error: unknown } {
  try {
    return { value: body() };
  } catch (error) {
    return { error };
  }
}

/** Returns outcome and error name for an operation that threw. */
export function failureOf(error: unknown): { outcome: Outcome; error: string } {
  return {
    outcome: error instanceof AtomicRedisError ? error.outcome : 'not-applied',
    error: errorName(error),
  };
}

/** Names an error by its code or its class, without any part of its message. */
export function errorName(error: unknown): string {
  if (error instanceof AtomicRedisError) return error.code;
  try {
    return (error as object).constructor.name || 'Error';
  } catch {
    return typeof error;
  }
}

/**
 * Names a failed command: the first word of Redis's error, such as `WRONGTYPE`, or the name of any
 * other error.
 */
function replyName(error: unknown): string {
  const isReply = error instanceof Error && error.name === 'ReplyError';
  return (isReply && /^[A-Z]+(?= )/.exec(error.message)?.[0]) || errorName(error);
}
