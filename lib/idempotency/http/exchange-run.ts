import { Logger } from '@nestjs/common';
import { from, isObservable, lastValueFrom, toArray, type Subscriber } from 'rxjs';
import { isWithinHandler, withinCall, type CallName, type RunningCall } from '../current-call.js';
import type { IdempotencyOptions } from '../idempotency-call.options.js';
import type { IdempotencyService } from '../idempotency.service.js';
import { IdempotencyResultUnavailableError, type TombstoneReason } from '../idempotency.errors.js';
import type { ClaimedRun } from '../idempotent-run.js';
import { limited, storedError, tombstone } from '../stored-result.js';
import type { HttpExchange } from './exchange.js';
import { endingOf, isUnknown, type FirstResponse, type OnResponse } from './outcome.js';
import type { RecordingBudget } from './recording-budget.js';
import type { Ended, Recorder } from './response-recorder.js';
import { ResponseTap } from './response-tap.js';
import { encodeWire } from './wire-response.js';

/** The options of a request's claim. */
export type RouteOptions = IdempotencyOptions & { readonly scope: string; readonly operation: string };

/** The options by which the response of a route is recorded. */
export interface CaptureOptions {
  readonly stream: boolean;
  readonly replayHeaders: readonly string[];
  readonly onResponse: OnResponse | undefined;
}

const logger = new Logger('Idempotent');

/**
 * The time, in milliseconds, to wait for the response to a client that has gone, once its handler
 * has settled. Also the least time for any client.
 */
const GRACE_MS = 1_000;

/** Room for the status and headers beside the body, in bytes. */
const MAX_HEAD_BYTES = 65_536;

/**
 * A claimed run whose result is the response of a route. It ends once the handler has settled and
 * the response has ended, in whichever order, and holds the key until then: a timeout interceptor
 * may answer while the handler still runs. {@link endingOf} decides how it ends.
 *
 * The client gets the end of the response once the run has ended, unless the response came first.
 */
export class ExchangeRun implements RunningCall, Recorder {
  readonly kind = 'run';
  readonly name: CallName;
  readonly maxBytes: number;
  readonly budget: RecordingBudget;
  readonly streams: boolean;
  readonly replayHeaders: readonly string[];
  private readonly tap: ResponseTap | undefined;
  /** The call of the handler that runs or has resolved: interceptors may call it again. */
  private handled: Promise<unknown> | undefined;
  private phase: 'claimed' | 'running' | 'settled' = 'claimed';
  private failure: { readonly error: unknown } | undefined;
  /** True once a waiting caller has the handler's value. */
  private isGiven = false;
  private whenSettled: (() => void)[] | undefined;
  private statusWhenResolved = 0;
  /** True once the handler has begun the response by itself. */
  private hasBegun = false;
  /** True if the handler did so in its asynchronous context. */
  private hasBegunWithin = false;
  private answer: FirstResponse | undefined;
  /** Set where no answer is to be expected: another's was sent, or the response broke off. */
  private noAnswer: TombstoneReason | undefined;
  private isClientGone = false;
  private waiting: NodeJS.Timeout | undefined;
  private settling: Promise<void> | undefined;

  constructor(
    readonly idempotency: IdempotencyService,
    readonly exchange: HttpExchange,
    key: string,
    private readonly options: RouteOptions,
    private readonly capture: CaptureOptions,
    private readonly run: ClaimedRun,
  ) {
    const { scope, operation } = options;
    const { defaults } = idempotency;
    this.name = { scope, operation, key };
    this.maxBytes = defaults.maxResultBytes;
    this.budget = idempotency.recordingBudget;
    this.streams = capture.stream;
    this.replayHeaders = capture.replayHeaders;
    idempotency.inFlight.enter();
    this.tap = ResponseTap.of(exchange.response, this);
    if (!this.tap) this.noAnswer = 'response-failed';
  }

  get isRunning(): boolean {
    return !this.settling;
  }

  /**
   * Runs the handler as part of the run. A call while it runs, or after it resolved, gets the
   * result of that one; after it rejected, it runs again. The values of an Observable are gathered
   * first, so that it fails and lasts as a promise does.
   *
   * @throws the error that the handler throws, the same instance
   * @throws IdempotencyResultUnavailableError when the run has ended before
   */
  handle(handler: () => unknown): Promise<unknown> {
    return (this.handled ??= this.runHandler(handler));
  }

  /**
   * Returns the value of the handler for one of its calls. Nest destroys a stream whose caller has
   * given up, but another call, such as the next one of `retry`, may still send it. So a caller
   * that gave up gets the stream only once the run is over, and only if no other call got it.
   */
  given(value: unknown, caller: Subscriber<unknown> | undefined): unknown {
    if (caller?.closed) return this.givenAtEnd(value);
    this.isGiven = true;
    return value;
  }

  private async givenAtEnd(value: unknown): Promise<unknown> {
    await (this.settling ?? new Promise<void>((resolve) => (this.whenSettled ??= []).push(resolve)));
    return this.isGiven ? undefined : value;
  }

  private async runHandler(handler: () => unknown): Promise<unknown> {
    if (this.settling) throw new IdempotencyResultUnavailableError('response-failed');
    clearTimeout(this.waiting);
    this.waiting = undefined;
    this.phase = 'running';
    try {
      const value = await withinCall(this, () => this.run.within(() => gathered(handler)));
      this.statusWhenResolved = this.exchange.response.statusCode;
      this.failure = undefined;
      return value;
    } catch (error) {
      // The failure of a later call does not reveal the effect of an earlier one.
      if (!isUnknown(this.failure?.error)) this.failure = { error };
      this.handled = undefined;
      throw error;
    } finally {
      this.phase = 'settled';
      if (this.hasAnswered) void this.settle();
      // After the microtasks in which most responses end.
      else process.nextTick(() => this.waitForResponse());
    }
  }

  isOwn(status: number): boolean {
    if (this.phase === 'settled') return true;
    const isWithin = isWithinHandler(this.exchange);
    // The asynchronous context may be lost on the way through callbacks. Where Nest sends nothing,
    // only the handler can have sent a success; but a response that it began in its context, a
    // time-out may end.
    const isOwn =
      isWithin ||
      (this.phase === 'running' && this.exchange.sendsByItself && status < 400 && !this.hasBegunWithin);
    this.hasBegun ||= isOwn;
    this.hasBegunWithin ||= isWithin;
    return isOwn;
  }

  wrote(): void {
    if (this.waiting) this.waitForResponse();
  }

  ended({ status, response, reason }: Ended): Promise<void> {
    const isEarly = this.phase === 'running';
    const byHandler = isEarly || this.isErrorOfHandler(status);
    // A response that the handler began before it failed was ended by others.
    const isBroken = this.failure !== undefined && !isEarly && this.hasBegun;
    this.answer = { status, response: isBroken ? undefined : response, reason, isEarly, byHandler };
    clearTimeout(this.waiting);
    // A handler that is done but for returning is waited for. A running one is not: it may wait for
    // the response to be sent.
    return isEarly ? this.settleSoon() : this.settle();
  }

  lost(how: 'taken' | 'broken', status: number | undefined): void {
    this.noAnswer = how === 'taken' ? 'response-failed' : 'response-aborted';
    if (how === 'broken' && status !== undefined) {
      const byHandler = this.isErrorOfHandler(status);
      this.answer = { status, response: undefined, reason: this.noAnswer, isEarly: false, byHandler };
    }
    clearTimeout(this.waiting);
    if (this.phase === 'settled') void this.settle();
  }

  gone(): void {
    this.isClientGone = true;
    if (this.waiting) this.waitForResponse();
  }

  private isErrorOfHandler(status: number): boolean {
    return status >= 400 && isWithinHandler(this.exchange);
  }

  private get hasAnswered(): boolean {
    return this.answer !== undefined || this.noAnswer !== undefined;
  }

  private async settleSoon(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    if (this.phase === 'settled') await this.settle();
  }

  /** Bounds the wait for the end of the response. Each write restarts it. */
  private waitForResponse(): void {
    if (this.phase !== 'settled' || this.hasAnswered || this.settling) return;
    clearTimeout(this.waiting);
    const leaseMs = this.options.leaseMs ?? this.idempotency.defaults.leaseMs;
    this.waiting = setTimeout(
      () => {
        this.noAnswer = 'response-aborted';
        this.tap?.pass();
        void this.settle();
      },
      this.isClientGone ? GRACE_MS : Math.max(leaseMs, GRACE_MS),
    ).unref();
  }

  private settle(): Promise<void> {
    return (this.settling ??= this.settleOnce());
  }

  private async settleOnce(): Promise<void> {
    try {
      await this.record();
    } catch (error) {
      // An error of the application may throw when it is asked for its status.
      logger.error("Could not determine the run's outcome; holding its idempotency key", error);
      await this.run.complete(tombstone('outcome-unknown'));
    } finally {
      this.idempotency.inFlight.leave();
      this.whenSettled?.forEach((tell) => tell());
    }
  }

  private record(): Promise<void> {
    const { failure, statusWhenResolved, answer, noAnswer, run } = this;
    const reason = noAnswer ?? 'response-aborted';
    const { onError } = this.options;
    const { onResponse } = this.capture;
    const ending = endingOf({ failure, statusWhenResolved, answer, reason }, { onError, onResponse });
    switch (ending.kind) {
      case 'release':
        return run.release();
      case 'keep-response': {
        const bytes = encodeWire(ending.response);
        return run.complete(limited({ kind: 'http', bytes }, this.maxBytes + MAX_HEAD_BYTES));
      }
      case 'keep-error':
        return run.complete(storedError(ending.error, this.maxBytes));
      default:
        return run.complete(tombstone(ending.reason));
    }
  }
}

/**
 * The result of a handler, with an Observable taken to its end. One value is given on as it is;
 * none or several again as an Observable, so that Nest and interceptors see each of them.
 */
async function gathered(handler: () => unknown): Promise<unknown> {
  const value = await handler();
  if (!isObservable(value)) return value;
  const values = await lastValueFrom(value.pipe(toArray()));
  return values.length === 1 ? values[0] : from(values);
}
