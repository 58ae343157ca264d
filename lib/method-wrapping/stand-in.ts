import type { CounterResult } from '../counters/counter-result.js';
import type { CompletableJob } from '../scripting/completable-job.js';
import type { MethodCall, MethodSite } from './method-site.js';

/** The method of a stand-in for the façade that takes the calls of decorated methods. */
export const STAND_IN = Symbol.for('nestjs-atomic-redis:stand-in');

/** Facts of a decorator that a stand-in needs to behave as the decorator would. */
export interface StandInFacts {
  /** Returns the amount that a call would count. */
  amountOf?(args: unknown[]): number | bigint;
  /** Gives the method the count of its call. */
  giveCount?(args: unknown[], count: CounterResult): void;
  /** Returns the job that a call completes. */
  jobOf?: ((args: unknown[]) => CompletableJob) | undefined;
  /** After this many conflicts the call fails. */
  maxAttempts?: number | undefined;
}

/** Runs decorated methods without Redis, for unit tests. */
export interface StandIn {
  [STAND_IN](site: MethodSite, call: MethodCall, facts: StandInFacts): unknown;
}
