import { HttpException, Logger } from '@nestjs/common';
import { from, isObservable, lastValueFrom, toArray } from 'rxjs';
import { currentCall, withinCall } from '../current-call.js';
import { decide, type OnErrorOption } from '../error-policy.js';
import type { IdempotencyService } from '../idempotency.service.js';
import { IdempotencyResultUnavailableError } from '../idempotency.errors.js';
import type { ClaimedRun } from '../idempotent-run.js';
import { limited, tombstone } from '../stored-result.js';
import type { HttpExchange } from './http-exchange.js';
import type { Recording } from './response-tap.js';
import { encodeWire } from './wire-response.js';

export interface ExchangeRunOptions {
  /** Of the claim: scope, operation and key. */
  id: string;
  /** The longest body that is kept, in bytes. */
  maxResultBytes: number;
  /** How long a response that has neither ended nor been written to is waited for once its handler has settled, in milliseconds. */
  leaseMs: number;
  onError?: OnErrorOption | undefined;
}

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
export class ExchangeRun {
  private readonly logger = new Logger('Idempotent');
  /** Calls of the handler under way: an interceptor may call it again. */
  private handling = 0;
  private failure: { readonly error: unknown } | undefined;
  private ended:
    { readonly recording: Recording; readonly byHandler: boolean; readonly early: boolean } | undefined;
  private waiting: NodeJS.Timeout | undefined;
  private settling: Promise<void> | undefined;
  private finish!: () => void;

  constructor(
    private readonly idempotency: IdempotencyService,
    private readonly exchange: HttpExchange,
    private readonly run: ClaimedRun,
    private readonly options: ExchangeRunOptions,
  ) {
    const done = new Promise<void>((resolve) => (this.finish = resolve));
    void idempotency.track(() => done);
    exchange.tap.record({
      maxBytes: options.maxResultBytes,
      ended: (recording) => this.responseEnded(recording),
      wrote: () => this.waitForResponse(),
    });
    exchange.tap.response.once('close', () => this.waitForResponse());
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
    const call = {
      kind: 'run',
      idempotency: this.idempotency,
      id: this.options.id,
      exchange: this.exchange,
      isRunning: () => !this.settling,
      outer: currentCall(),
    } as const;
    try {
      return await withinCall(call, () => this.run.within(() => gathered(handler())));
    } catch (error) {
      this.failure = { error };
      this.exchange.tap.discard();
      throw error;
    } finally {
      this.handling--;
      if (this.handling > 0) {
        // Another call of the handler settles the run.
      } else if (this.ended) void this.settle();
      else this.waitForResponse();
    }
  }

  private async responseEnded(recording: Recording): Promise<void> {
    const early = this.handling > 0;
    this.ended = { recording, early, byHandler: !early || this.isSentByHandler(recording) };
    clearTimeout(this.waiting);
    // A handler that is done but for returning is waited for. Not one that goes on: it may wait for the response to be sent.
    if (early && this.ended.byHandler) await new Promise((resolve) => setImmediate(resolve));
    if (this.handling === 0) await this.settle();
  }

  /** By where the call comes from; that can be lost on the way through callbacks, so a handler that has the response gets the benefit. */
  private isSentByHandler(recording: Recording): boolean {
    const call = currentCall();
    for (let at = call; at; at = at.outer)
      if (at.kind === 'run' && at.exchange === this.exchange) return true;
    return this.exchange.takesResponse && (recording.kind !== 'complete' || recording.response.status < 400);
  }

  /** Bounds the wait for the end of the response. Each write begins it anew. */
  private waitForResponse(): void {
    if (this.handling > 0 || this.ended || this.settling) return;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(
      () => {
        this.exchange.tap.pass();
        void this.settle();
      },
      this.exchange.tap.response.destroyed ? GRACE_MS : Math.max(this.options.leaseMs, GRACE_MS),
    ).unref();
  }

  private async settle(): Promise<void> {
    this.settling ??= this.record()
      .catch(async (error: unknown) => {
        // An error of the application may throw when it is asked for its status.
        this.logger.error('How a run ended could not be told; its key is held', error);
        await this.run.complete(tombstone('outcome-unknown'));
      })
      .finally(this.finish);
    await this.settling;
  }

  private async record(): Promise<void> {
    const { failure, ended } = this;
    let mayBe5xx = false;
    if (failure && !this.hasAnswered()) {
      const { error } = failure;
      const policy = decide(this.options.onError, error);
      if (policy === 'release') return await this.run.release();
      if (policy === 'hold' || !(error instanceof HttpException))
        return await this.run.complete(tombstone('outcome-unknown'));
      mayBe5xx = error.getStatus() >= 500;
    }
    if (!ended) return await this.run.complete(tombstone('response-aborted'));
    const { recording, byHandler } = ended;
    if (!byHandler) return await this.run.complete(tombstone('response-failed'));
    if (recording.kind === 'too-large') return await this.run.complete(tombstone('too-large'));
    const { response } = recording;
    if (response.status >= 500 && !mayBe5xx) return await this.run.complete(tombstone('response-failed'));
    const bytes = encodeWire(response);
    await this.run.complete(limited({ kind: 'http', bytes }, this.options.maxResultBytes + MAX_HEAD_BYTES));
  }

  /** Whether the handler told the client how it went before it failed. That stands, unless the application says otherwise. */
  private hasAnswered(): boolean {
    if (!this.ended?.early || !this.ended.byHandler || this.options.onError !== undefined) return false;
    const { recording } = this.ended;
    return recording.kind === 'too-large' || recording.response.status < 500;
  }
}

/**
 * What a handler comes to, with an Observable taken to its end. One value is given on as it is; none or several again as an Observable, so
 * that Nest and interceptors see each of them.
 */
async function gathered(result: unknown): Promise<unknown> {
  const value = await result;
  if (!isObservable(value)) return value;
  const values = await lastValueFrom(value.pipe(toArray()));
  return values.length === 1 ? values[0] : from(values);
}
