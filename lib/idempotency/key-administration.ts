import { InvalidArgumentError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { Deadline } from '../runtime/deadline.js';
import { randomId } from '../runtime/random-id.js';
import type { WorkInFlight } from '../runtime/work-in-flight.js';
import { checkHeldOptions, stateOf, type HeldKeyList, type HeldKeys, type HeldOptions } from './held-keys.js';
import { checkKeyOptions, keyChecks, type IdempotencyKeyOptions } from './idempotency-call.options.js';
import type { HoldReason } from './idempotency.errors.js';
import type { ResolvedIdempotencyOptions } from './idempotency.options.js';
import { callOfReference, isRecordReference, recordOfReference, type KeyReference } from './key-reference.js';
import type { OperationRegistry } from './operation-registry.js';
import { recordId, recordOf } from './record-key.js';
import type { RecordStore } from './record-store.js';
import type { RecordSummary, StepSummary } from './record-summary.js';
import type { ResultCodec } from './result-codec.js';
import type { RunClaimer } from './run-claimer.js';
import { checkSettledResponse, storedResponse, type SettledResponse } from './settled-response.js';
import { storedValue, type StoredResult } from './stored-result.js';

/** The state of a key. */
export interface IdempotencyRecord {
  /** Its id, as events and problems show it. */
  readonly record: string;
  /**
   * `running`: a call holds the key; `completed`: its result is kept; `held`: it is kept that a call was made, and there is no result to replay; `interrupted`: a run
   * with steps died or failed half-way, and the next call goes on with it.
   */
  readonly state: 'running' | 'completed' | 'held' | 'interrupted';
  /**
   * The time until the key is free again if nothing happens: the rest of the lease, or of the
   * result's time to live; in milliseconds.
   */
  readonly expiresInMs: number;
  /** The size of the kept result, in bytes. */
  readonly resultBytes: number;
  /** Why nobody knows what the run did. Of a held key only. */
  readonly reason?: HoldReason;
  /** The number of attempts so far. Of a run with steps, or with `onAbandoned`, and of a held key. */
  readonly attempt?: number;
  /** Likewise. */
  readonly steps?: readonly StepSummary[];
}

/** The result that an operator gives a key. */
export type Settlement =
  /** The value that the method should have returned. */
  | { readonly result: unknown }
  /** The response that the route should have sent. */
  | { readonly response: SettledResponse };

/** Options of `IdempotencyService.settle`. */
export interface SettleOptions extends IdempotencyKeyOptions {
  /** Time that the result is kept for replay, in milliseconds. Default: the module's `ttlMs`. */
  ttlMs?: number;
  /** Turns the result into bytes. Default: the module's codec. */
  codec?: ResultCodec;
}

/** Options of `IdempotencyService.forget`. */
export interface ForgetOptions extends IdempotencyKeyOptions {
  /**
   * Gives later runs other keys for third parties, which then take what they are asked for as new. Only where they are known to have done nothing, or are to do it
   * again. @default false
   */
  newKeys?: boolean;
}

const checkSettlement = check.options({ result: () => undefined, response: checkSettledResponse });
const checkSettleOptions = check.options({
  ...keyChecks,
  ttlMs: check.milliseconds(),
  codec: check.methods('encode', 'decode'),
} satisfies Record<keyof SettleOptions, check.Check>);
const checkForgetOptions = check.options({
  ...keyChecks,
  newKeys: check.boolean,
} satisfies Record<keyof ForgetOptions, check.Check>);

interface Dependencies {
  readonly connection: RedisConnection;
  readonly store: RecordStore;
  readonly held: HeldKeyList;
  readonly claimer: RunClaimer;
  readonly operations: OperationRegistry;
  readonly inFlight: WorkInFlight;
  readonly defaults: ResolvedIdempotencyOptions;
}

/** What those on duty do with keys. */
export class KeyAdministration {
  constructor(private readonly parts: Dependencies) {}

  async inspect(
    key: string | KeyReference,
    options: IdempotencyKeyOptions,
  ): Promise<IdempotencyRecord | null> {
    checkKeyOptions('options', options);
    const found = await this.lookUp(key, options);
    if (!found) return null;
    const { record, summary } = found;
    const { state, kind, ttlMs, aliveMs, resultBytes, reason, trace, steps } = summary;
    const more = { resultBytes, ...(reason && { reason }), ...(trace && { attempt: trace.attempt, steps }) };
    if (state === 'running' || aliveMs > 0)
      return { record, state: 'running', expiresInMs: state === 'running' ? ttlMs : aliveMs, ...more };
    const ended = kind === 'tombstone' ? 'held' : 'completed';
    return { record, state: stateOf(summary) ?? ended, expiresInMs: ttlMs, ...more };
  }

  async held(options: HeldOptions): Promise<HeldKeys> {
    checkHeldOptions('options', options);
    const { held, defaults } = this.parts;
    return await this.asked(held.page(options, defaults.heldTtlMs, defaults.timeoutMs));
  }

  async settle(key: string | KeyReference, settlement: Settlement, options: SettleOptions): Promise<boolean> {
    checkSettlement('settlement', settlement);
    checkSettleOptions('options', options);
    if (!('result' in settlement) && !('response' in settlement))
      throw new InvalidArgumentError('settlement', '{ result } or { response }', settlement);
    const { defaults, store, claimer } = this.parts;
    const { ttlMs = defaults.ttlMs, codec = defaults.codec } = options;
    const result: StoredResult =
      'response' in settlement
        ? storedResponse(settlement.response)
        : storedValue(settlement.result, codec, defaults.maxResultBytes);
    if (result.kind === 'tombstone')
      throw new InvalidArgumentError(
        'settlement.result',
        'a value that the codec carries, within maxResultBytes',
        settlement,
      );
    const found = await this.lookUp(key, options);
    if (!found) return false;
    this.assertEnded(found);
    try {
      return await this.asked(store.settle(found.record, found.summary, result, ttlMs, this.deadline()));
    } finally {
      claimer.forget(found.record);
    }
  }

  async forget(key: string | KeyReference, options: ForgetOptions): Promise<boolean> {
    checkForgetOptions('options', options);
    const { store, claimer, defaults } = this.parts;
    const found = await this.lookUp(key, options);
    if (!found) return false;
    const { record, operation, summary } = found;
    this.assertEnded(found);
    const renewed = options.newKeys && {
      retentionMs: defaults.heldTtlMs,
      attempt: 0,
      isAbandoned: false,
      hasSteps: false,
      lineage: summary.token,
      keysEpoch: randomId('base64url'),
      operation: summary.trace?.operation ?? operation,
    };
    try {
      return await this.asked(store.forget(record, summary, renewed || undefined, this.deadline()));
    } finally {
      claimer.forget(record);
    }
  }

  async heldCount(deadline: Deadline): Promise<number | undefined> {
    return await this.parts.held.count(deadline);
  }

  private assertEnded({ operation, summary }: { operation: string; summary: RecordSummary }): void {
    const { claimer } = this.parts;
    if (summary.state === 'running') throw claimer.inFlight(operation, summary.ttlMs);
    if (summary.aliveMs > 0) throw claimer.inFlight(operation, summary.aliveMs);
  }

  private async lookUp(
    key: string | KeyReference,
    options: IdempotencyKeyOptions,
  ): Promise<{ record: string; operation: string; summary: RecordSummary } | undefined> {
    const { record, operation } = await this.find(key, options);
    const summary = await this.asked(this.parts.store.inspect(record, this.deadline()));
    return summary ? { record, operation, summary } : undefined;
  }

  private async find(
    key: string | KeyReference,
    options: IdempotencyKeyOptions,
  ): Promise<{ record: string; operation: string }> {
    const { connection, operations, defaults } = this.parts;
    const { scope = '', operation = '' } = options;
    if (typeof key === 'object' && key !== null) {
      if (isRecordReference(key))
        return { record: recordOfReference(key, connection.keys.global('idempotency', '')), operation };
      const call = await callOfReference(key, operations, defaults.scope);
      return {
        record: recordOf(connection, recordId(call.scope, call.operation, call.key), options),
        operation: call.operation,
      };
    }
    check.key('key', key);
    return { record: recordOf(connection, recordId(scope, operation, key), options), operation };
  }

  /** A read has no outcome to be unknown. Neither have `settle` and `forget`, which may be repeated. */
  private async asked<T>(step: Promise<T>): Promise<T> {
    const { inFlight, connection } = this.parts;
    return await inFlight
      .track(() => step)
      .catch((error: unknown) => {
        throw error instanceof OutcomeUnknownError ? connection.unavailable(error) : error;
      });
  }

  private deadline(): Deadline {
    return Deadline.in(this.parts.defaults.timeoutMs);
  }
}
