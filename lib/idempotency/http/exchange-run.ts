import { HttpException, Logger } from '@nestjs/common';
import { from, isObservable, lastValueFrom, toArray } from 'rxjs';
import { isWithinHandler, withinCall, type CallName, type RunningCall } from '../current-call.js';
import { decide } from '../error-policy.js';
import type { IdempotencyService } from '../idempotency.service.js';
import { IdempotencyResultUnavailableError } from '../idempotency.errors.js';
import type { ClaimedRun } from '../idempotent-run.js';
import { limited, tombstone } from '../stored-result.js';
import type { HttpExchange } from './http-exchange.js';
import type { Recorder, Recording } from './response-tap.js';
import type { RouteOptions } from './route-call.js';
import { encodeWire } from './wire-response.js';

const logger = new Logger('Idempotent');

/**
 * How long the response to a client that has gone is waited for once its handler has settled, in milliseconds; the least for any client.
 */
const GRACE_MS = 1_000;

/** Room for the status and headers beside the body, in bytes. */
const MAX_HEAD_BYTES = 65_536;

/**
 * A claimed run whose result is the response of a route. It ends once both the handler has settled and the response has ended, in
 * whichever order, and holds the key until then: a timeout interceptor may answer while the handler goes on.
 *
 * The client gets the end of the response once the run has ended, unless the response came first.
 */
export class ExchangeRun implements RunningCall, Recorder {
  readonly kind = 'run';
  readonly name: CallName;
  readonly maxBytes: number;
  /** Calls of the handler under way: an interceptor may call it again. */
  private handling = 0;
  private failure: { readonly error: unknown } | undefined;
  private end:
    { readonly recording: Recording; readonly byHandler: boolean; readonly early: boolean } | undefined;
  private waiting: NodeJS.Timeout | undefined;
  private settling: Promise<void> | undefined;

  constructor(
    readonly idempotency: IdempotencyService,
    readonly exchange: HttpExchange,
    key: string,
    private readonly options: RouteOptions,
    private readonly run: ClaimedRun,
  ) {
    const { scope, operation } = options;
    this.name = { scope, operation, key };
    this.maxBytes = idempotency.defaults.maxResultBytes;
    idempotency.inFlight.enter();
    exchange.tap.record(this);
  }

  get isRunning(): boolean {
    return !this.settling;
  }

  /**
   * Runs the handler as part of the run. What an Observable emits is gathered first, so that it fails and lasts as a promise does.
   *
   * @throws what the handler throws, the same instance
   * @throws IdempotencyResultUnavailableError when the run has ended before
   */
  async handle(handler: () => unknown): Promise<unknown> {
    if (this.settling) throw new IdempotencyResultUnavailableError('response-failed');
    clearTimeout(this.waiting);
    this.handling++;
    this.failure = undefined;
    try {
      return await withinCall(this, () => this.run.within(() => gathered(handler)));
    } catch (error) {
      this.failure = { error };
      this.exchange.tap.discard();
      throw error;
    } finally {
      this.handling--;
      if (this.handling > 0) {
        // Another call of the handler settles the run.
      } else if (this.end) void this.settle();
      // Behind the microtasks, by which most responses have ended.
      else process.nextTick(() => this.waitForResponse());
    }
  }

  ended(recording: Recording): Promise<void> {
    const early = this.handling > 0;
    this.end = { recording, early, byHandler: !early || this.isSentByHandler(recording) };
    clearTimeout(this.waiting);
    // A handler that is done but for returning is waited for. Not one that goes on: it may wait for the response to be sent.
    return early && this.end.byHandler ? this.settleSoon() : this.settleUnlessHandling();
  }

  private async settleSoon(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    await this.settleUnlessHandling();
  }

  private settleUnlessHandling(): Promise<void> {
    return this.handling === 0 ? this.settle() : Promise.resolve();
  }

  /** By where the call comes from; that can be lost on the way through callbacks, so a handler that has the response gets the benefit. */
  private isSentByHandler(recording: Recording): boolean {
    if (isWithinHandler(this.exchange)) return true;
    const { takesResponse } = this.exchange.route;
    return takesResponse && (recording.kind !== 'complete' || recording.response.status < 400);
  }

  wrote(): void {
    this.waitForResponse();
  }

  /** Bounds the wait for the end of the response. Each write begins it anew. */
  private waitForResponse(): void {
    if (this.handling > 0 || this.end || this.settling) return;
    const { response } = this.exchange.tap;
    const leaseMs = this.options.leaseMs ?? this.idempotency.defaults.leaseMs;
    if (this.waiting) clearTimeout(this.waiting);
    else response.once('close', () => this.waitForResponse());
    this.waiting = setTimeout(
      () => {
        this.exchange.tap.pass();
        void this.settle();
      },
      response.destroyed ? GRACE_MS : Math.max(leaseMs, GRACE_MS),
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
      logger.error('How a run ended could not be told; its key is held', error);
      await this.run.complete(tombstone('outcome-unknown'));
    } finally {
      this.idempotency.inFlight.leave();
    }
  }

  private record(): Promise<void> {
    const { failure, end } = this;
    let mayBe5xx = false;
    if (failure && !this.hasAnswered()) {
      const { error } = failure;
      const policy = decide(this.options.onError, error);
      if (policy === 'release') return this.run.release();
      if (policy === 'hold' || !(error instanceof HttpException))
        return this.run.complete(tombstone('outcome-unknown'));
      mayBe5xx = error.getStatus() >= 500;
    }
    if (!end) return this.run.complete(tombstone('response-aborted'));
    const { recording, byHandler } = end;
    if (!byHandler) return this.run.complete(tombstone('response-failed'));
    if (recording.kind === 'too-large') return this.run.complete(tombstone('too-large'));
    const { response } = recording;
    if (response.status >= 500 && !mayBe5xx) return this.run.complete(tombstone('response-failed'));
    const bytes = encodeWire(response);
    return this.run.complete(limited({ kind: 'http', bytes }, this.maxBytes + MAX_HEAD_BYTES));
  }

  /** Whether the handler told the client how it went before it failed. That stands, unless the application says otherwise. */
  private hasAnswered(): boolean {
    if (!this.end?.early || !this.end.byHandler || this.options.onError !== undefined) return false;
    const { recording } = this.end;
    return recording.kind === 'too-large' || recording.response.status < 500;
  }
}

/**
 * What a handler comes to, with an Observable taken to its end. One value is given on as it is; none or several again as an Observable, so
 * that Nest and interceptors see each of them.
 */
async function gathered(handler: () => unknown): Promise<unknown> {
  const value = await handler();
  if (!isObservable(value)) return value;
  const values = await lastValueFrom(value.pipe(toArray()));
  return values.length === 1 ? values[0] : from(values);
}
