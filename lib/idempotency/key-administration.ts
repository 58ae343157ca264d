import { InvalidArgumentError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { Deadline } from '../runtime/deadline.js';
import { randomId } from '../runtime/random-id.js';
import type { WorkInFlight } from '../runtime/work-in-flight.js';
import { checkHeldOptions, type HeldKeys, type HeldOptions } from './held.options.js';
import { stateOf, type HeldKeyList } from './held-keys.js';
import {
  checkForgetOptions,
  checkSettlement,
  checkSettleOptions,
  type ForgetOptions,
  type IdempotencyRecord,
  type Settlement,
  type SettleOptions,
} from './administration.options.js';
import { checkKeyOptions, type IdempotencyKeyOptions } from './idempotency-call.options.js';
import type { ResolvedIdempotencyOptions } from './idempotency.options.js';
import { callOfReference, isRecordReference, recordOfReference, type KeyReference } from './key-reference.js';
import type { OperationRegistry } from './operation-registry.js';
import { recordId, recordOf } from './record-key.js';
import type { RecordStore } from './record-store.js';
import type { RecordSummary } from './record-summary.js';
import type { RunClaimer } from './run-claimer.js';
import { storedResponse, type SettledResponse } from './settled-response.js';
import { limited, storedValue } from './stored-result.js';

interface Dependencies {
  readonly connection: RedisConnection;
  readonly store: RecordStore;
  readonly held: HeldKeyList;
  readonly claimer: RunClaimer;
  readonly operations: OperationRegistry;
  readonly inFlight: WorkInFlight;
  readonly defaults: ResolvedIdempotencyOptions;
}

/** The work of operators with keys. */
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
    const { response } = settlement as { response?: SettledResponse };
    if ('result' in settlement === (response !== undefined))
      throw new InvalidArgumentError('settlement', '{ result } or { response }', settlement);
    const { defaults, store, claimer } = this.parts;
    const { ttlMs = defaults.ttlMs, codec = defaults.codec } = options;
    const result = response
      ? limited(storedResponse(response), defaults.maxResultBytes)
      : storedValue((settlement as { result: unknown }).result, codec, defaults.maxResultBytes);
    if (result.kind === 'tombstone')
      throw new InvalidArgumentError(
        response ? 'settlement.response' : 'settlement.result',
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

  /**
   * A read has no outcome to be unknown. Neither have `settle` and `forget`, which may be repeated.
   */
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
