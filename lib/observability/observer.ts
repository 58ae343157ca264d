import { Inject, Injectable, Logger } from '@nestjs/common';
import { OPTIONS, REGISTRATION_NAME } from '../atomic-redis.constants.js';
import { AtomicRedisError, type Outcome } from '../atomic-redis.errors.js';
import { AtomicRedisEvents } from './events.js';
import type { OccurrenceEvent, OperationType, TerminalEvent } from './event-types.js';
import type { JobSpan, OperationSpan, TelemetryReporter, Telemetry } from './telemetry.js';

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** A terminal event without what every one has. */
export type Ending = DistributiveOmit<TerminalEvent, 'registration' | 'durationMs'>;
type Occurrence = DistributiveOmit<OccurrenceEvent, 'registration'>;

/** An operation under way. */
export interface Operation {
  /** Runs `body` as part of it. */
  within<T>(body: () => T): T;
  /** Tells of its end; the first time it is called. */
  end(make: () => Ending): void;
}

export interface OperationReport<T> {
  readonly name?: string | undefined;
  /** Whether a call that resolved changed anything. Default: it did. */
  readonly changed?: (result: T) => boolean;
  /** What its event has beside, asked when it ends. */
  readonly details?: () => object;
}

interface ObserverOptions {
  readonly telemetry?: Telemetry | undefined;
  readonly namespace: string;
  readonly queues?: { readonly names: readonly string[] };
}

/** A transaction that waits longer for a connection is told of by an event, in milliseconds. */
const LONG_POOL_WAIT_MS = 100;

const UNOBSERVED: Operation = { within: (body) => body(), end: () => undefined };

/**
 * The one place by which services tell what they do: to listeners of `AtomicRedisEvents` and to the telemetry of the registration. Where there is neither,
 * an operation costs one check.
 */
@Injectable()
export class Observer {
  private readonly logger = new Logger('AtomicRedisTelemetry');
  private readonly follower: TelemetryReporter | undefined;
  private readonly declaredQueues: Set<string>;

  constructor(
    private readonly events: AtomicRedisEvents,
    @Inject(REGISTRATION_NAME) private readonly registration: string,
    @Inject(OPTIONS)
    { telemetry, namespace, queues }: ObserverOptions,
  ) {
    this.declaredQueues = new Set(queues?.names);
    const isDeclaredQueue = (name: string): boolean => this.declaredQueues.has(name);
    this.follower = this.quietly(() => telemetry?.attach({ registration, namespace, isDeclaredQueue }));
  }

  /** Lets metrics tell the queue apart from others. */
  declareQueue(name: string): void {
    this.declaredQueues.add(name);
  }

  get isWatching(): boolean {
    return this.follower !== undefined || this.events.hasListeners;
  }

  /** The trace context of the operation that the calling code is part of, as text that can go with a job. */
  get trace(): string | undefined {
    const { follower } = this;
    const text = follower && this.quietly(() => follower.trace?.());
    // It goes among text that is told apart by other characters.
    return text !== undefined && /^[\w.!~*'()%-]{1,4096}$/.test(text) ? text : undefined;
  }

  /** Runs `work` and tells of its end, by one event. */
  operation<T>(type: OperationType, work: () => Promise<T>, report?: OperationReport<T>): Promise<T> {
    return this.isWatching ? this.observed(type, work, report ?? {}) : work();
  }

  /** For an operation whose end is elsewhere. */
  begin(type: OperationType | 'idempotency.run', name?: string, job?: JobSpan): Operation {
    if (!this.isWatching) return UNOBSERVED;
    const followed = this.quietly(() => this.follower?.begin(type, name, job));
    const startedAt = performance.now();
    let hasEnded = false;
    return {
      within: (body) => (followed ? this.within(followed, body) : body()),
      end: (make) => {
        if (hasEnded) return;
        hasEnded = true;
        this.ended(followed, make(), performance.now() - startedAt);
      },
    };
  }

  occurred(occurrence: Occurrence): void {
    if (!this.isWatching) return;
    const event = { ...occurrence, registration: this.registration };
    this.quietly(() => this.follower?.occurred(event));
    this.events.emit(event);
  }

  /** Sends a command, and measures how long its answer takes. */
  roundTrip<T>(command: string, send: () => Promise<T>): Promise<T> {
    const { follower } = this;
    if (!follower) return send();
    const sentAt = performance.now();
    const answered = (error?: string): void =>
      this.quietly(() => follower.roundTrip(command, performance.now() - sentAt, error));
    const answer = send();
    answer.then(
      () => answered(),
      (error: unknown) => answered(replyName(error)),
    );
    return answer;
  }

  /** @param askedAt monotonic time */
  poolWaited(askedAt: number): void {
    if (!this.isWatching) return;
    const waitedMs = performance.now() - askedAt;
    this.quietly(() => this.follower?.poolWait(waitedMs));
    if (waitedMs > LONG_POOL_WAIT_MS) this.occurred({ type: 'pool.wait', waitedMs });
  }

  batch(size: number): void {
    const { follower } = this;
    if (follower) this.quietly(() => follower.batch(size));
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

  /** Runs `body` once, with its own answer, whatever the follower makes of it. */
  private within<T>(followed: OperationSpan, body: () => T): T {
    let ran: { value: T } | { error: unknown } | undefined;
    const once = (): T => {
      ran ??= attempt(body);
      if ('error' in ran) throw ran.error;
      return ran.value;
    };
    let made: unknown;
    this.quietly(() => {
      try {
        made = followed.within<unknown>(once);
      } catch (error) {
        if (!ran || 'value' in ran) throw error;
      }
    });
    const own = once();
    // The follower's own promise, which nobody waits for.
    if (made !== own) void Promise.resolve(made).catch(() => undefined);
    return own;
  }

  private ended(followed: OperationSpan | undefined, ending: Ending, durationMs: number): void {
    const event = { ...ending, registration: this.registration, durationMs };
    this.quietly(() => followed?.end(event));
    this.events.emit(event);
  }

  private quietly<T>(step: () => T): T | undefined {
    try {
      return step();
    } catch (error) {
      this.logger.error('The telemetry failed', error);
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

/** How an operation ended that threw. */
export function failureOf(error: unknown): { outcome: Outcome; error: string } {
  return {
    outcome: error instanceof AtomicRedisError ? error.outcome : 'not-applied',
    error: errorName(error),
  };
}

/** Names an error without anything that is in its message. */
export function errorName(error: unknown): string {
  if (error instanceof AtomicRedisError) return error.code;
  try {
    return (error as object).constructor.name || 'Error';
  } catch {
    return typeof error;
  }
}

/** The first word of an error of Redis, `WRONGTYPE`, or what else became of the command. */
function replyName(error: unknown): string {
  const isReply = error instanceof Error && error.name === 'ReplyError';
  return (isReply && /^[A-Z]+(?= )/.exec(error.message)?.[0]) || errorName(error);
}
