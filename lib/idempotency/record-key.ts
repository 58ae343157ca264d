import { hash } from 'node:crypto';
import type { RedisConnection } from '../connection/redis-connection.js';
import { IdempotencyCallerMismatchError, IdempotencyMismatchError } from './idempotency.errors.js';

/**
 * Returns the name of a record: the hash of scope, operation and client key. Each has its length in
 * front, so that two different triples never have the same text. The raw values reach neither the
 * keyspace nor a log.
 */
export function recordId(scope: string, operation: string, key: string): string {
  return hash('sha256', part(scope) + part(operation) + part(key), 'base64url');
}

/**
 * Names a record's key: in a slot of its own, or in that of the keys it is to be committed with.
 */
export const recordOf = (
  { keys }: RedisConnection,
  id: string,
  { colocateWith }: { readonly colocateWith?: string },
): string =>
  colocateWith === undefined
    ? keys.global('idempotency', id)
    : keys.pinned('idempotency', keys.slotOf(colocateWith), id);

const part = (text: string): string => `${Buffer.byteLength(text)}:${text}`;

/**
 * Returns the identity that a call must share with the first one beside its key, as the record
 * keeps it: `<evidence>:<payload>`. The evidence is hashed with the record's id, so that records do
 * not show which of them belong to one caller.
 *
 * @param id of the record, as {@link recordId} makes it
 * @param payload its fingerprint, or nothing
 */
export const identityOf = (id: string, evidence: string, payload: string): string =>
  `${evidence && hash('sha256', id + evidence, 'base64url').slice(0, EVIDENCE_LENGTH)}:${payload}`;

/** Characters of base64url that hold 128 bits. */
const EVIDENCE_LENGTH = 22;

/** Says in what two identities that differ do so; the caller goes first. */
export const mismatchOf = (one: string, other: string): Error =>
  one.slice(0, one.indexOf(':')) === other.slice(0, other.indexOf(':'))
    ? new IdempotencyMismatchError()
    : new IdempotencyCallerMismatchError();
