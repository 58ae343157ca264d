import { setMaxListeners } from 'node:events';
import { RedisReplyError, RedisUnavailableError } from '../atomic-redis.errors.js';
import type { Permit } from '../leases/permit.js';
import { whenAborted } from '../runtime/abort-listeners.js';
import { anySignal } from '../runtime/any-signal.js';
import { fullJitter, sleep } from '../runtime/deadline.js';
import type { HeldPermit } from './held-permit.js';
import { PermitUnavailableError } from './permit.errors.js';
import type { LeadOptions, TryAcquireOptions } from './permit.options.js';

/** The work of a leader. */
type Work<T> = (permit: Permit) => Promise<T> | T;

/** True for errors that do not end a wait to lead: they may be over the next time. */
const mayPass = (error: unknown): boolean =>
  error instanceof RedisUnavailableError ||
  error instanceof PermitUnavailableError ||
  (error instanceof RedisReplyError && (error.retryable || error.reply === 'OOM'));

/** The calls of this process that lead, or wait to lead. */
export class Leaders {
  private readonly stopping = new AbortController();
  private readonly leading = new Set<Promise<unknown>>();

  constructor(
    /** Waits for a permit for as long as it takes. */
    private readonly acquire: (
      name: string,
      options: TryAcquireOptions,
      signal: AbortSignal,
    ) => Promise<HeldPermit>,
    /** Runs work under a permit, and releases it. */
    private readonly runUnder: <T>(permit: Permit, work: Work<T>) => Promise<T>,
  ) {
    setMaxListeners(0, this.stopping.signal);
  }

  /** Leads until the work has settled while it led: see `PermitService.lead`. */
  async lead<T>(name: string, work: Work<T>, options: LeadOptions): Promise<T> {
    const leading = this.leadUntilDone(name, work, options);
    const settled = leading.then(
      () => undefined,
      () => undefined,
    );
    this.leading.add(settled);
    try {
      return await leading;
    } finally {
      this.leading.delete(settled);
    }
  }

  /** Tells leaders to stop, and ends waits to lead. */
  tellToStop(reason: Error): void {
    this.stopping.abort(reason);
  }

  /** Tells leaders to stop, and waits for their work up to `timeoutMs`. */
  async stop(reason: Error, timeoutMs: number): Promise<void> {
    this.tellToStop(reason);
    const stop = new AbortController();
    await Promise.race([Promise.all(this.leading), sleep(timeoutMs, stop.signal).catch(() => undefined)]);
    stop.abort();
  }

  private async leadUntilDone<T>(name: string, work: Work<T>, options: LeadOptions): Promise<T> {
    const { leaseMs, timeoutMs } = options;
    const given = { limit: 1, ...(leaseMs && { leaseMs }), ...(timeoutMs && { timeoutMs }) };
    const { signal: stopping } = this.stopping;
    const signal = options.signal ? anySignal(options.signal, stopping) : stopping;
    for (let failures = 0; ;) {
      signal.throwIfAborted();
      let permit: HeldPermit;
      try {
        permit = await this.acquire(name, given, signal);
        failures = 0;
        permit.tellsLoss = true;
      } catch (error) {
        if (!mayPass(error) || signal.aborted) throw error;
        await sleep(fullJitter(++failures, 50, 5_000), signal);
        continue;
      }
      const stopListening = whenAborted(signal, () => permit.stop(signal.reason));
      let result: { readonly value: T } | { readonly error: unknown };
      try {
        // Once the signal has aborted no work begins: nothing would tell it to end.
        const lead = (held: Permit): Promise<T> | T => {
          signal.throwIfAborted();
          return work(held);
        };
        result = { value: await this.runUnder(permit, lead) };
      } catch (error) {
        result = { error };
      } finally {
        stopListening();
      }
      if (permit.isLost && !signal.aborted) continue;
      if ('error' in result) throw result.error;
      return result.value;
    }
  }
}
