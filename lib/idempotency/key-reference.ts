import { InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { callerOf, type CallerRequest } from './http/caller.js';
import type { HttpRequest } from '../http/http-request.js';
import { keyFromHeader } from './http/http-request.js';
import type { OperationRegistry } from './operation-registry.js';
import type { RequestScope } from './idempotency.options.js';

/** A record by the id that events (`record`) and problem details (`record`) show. @inline */
export interface RecordReference {
  record: string;
}

/** The key of a request, by what a log of requests has. @inline */
export interface RequestReference {
  /** `POST` */
  method: string;
  /** The path as it was requested, `/api/accounts/42/deposits`, or the pattern of the route. */
  path: string;
  /** The key as the client sent it. */
  key: string;
  /**
   * The caller: a request with the parts that name the caller, `{ headers: {}, user: { id: 1 } }`,
   * or its scope as text. Default: a caller without a name.
   */
  caller?: CallerRequest | string;
}

function hasHeaders(path: string, value: unknown): void {
  if (typeof value !== 'object' || value === null || !('headers' in value))
    throw new InvalidArgumentError(path, 'a request with headers', value);
}

const checkRecord = check.options({ record: check.text }, 'record');
const checkRequest = check.options(
  {
    method: check.nonEmptyString,
    path: check.nonEmptyString,
    key: check.key,
    caller: check.either('a request or a scope', check.nonEmptyString, hasHeaders),
  },
  'method',
  'path',
  'key',
);

/** Names an idempotency key by what an operator has: the record's id, or the request. */
export type KeyReference = RecordReference | RequestReference;

export const isRecordReference = (reference: KeyReference): reference is RecordReference =>
  typeof reference === 'object' && reference !== null && 'record' in reference;

/** @throws InvalidArgumentError for what is no record of this registration */
export function recordOfReference(reference: RecordReference, prefix: string): string {
  checkRecord('key', reference);
  const { record } = reference;
  if (!record.startsWith(prefix) || record.length === prefix.length)
    throw new InvalidArgumentError(
      'key.record',
      `a record of this registration, which begins with ${prefix}`,
      record,
    );
  return record;
}

/**
 * Finds key, operation and scope of a request.
 *
 * @throws InvalidArgumentError for a path of no route, or of several
 */
export async function callOfReference(
  reference: RequestReference,
  operations: OperationRegistry,
  scopeOf: RequestScope | undefined,
): Promise<{ key: string; operation: string; scope: string }> {
  checkRequest('key', reference);
  const { method, path, key, caller = { headers: {} } } = reference;
  const found = operations.atPath(method, path);
  if (found.length !== 1) {
    throw new InvalidArgumentError(
      'key.path',
      `the path of one @Idempotent() route${found.length > 1 ? `, and not of several: ${found.join(', ')}` : ''}. ` +
        'Without it, give the key as text and { operation, scope }',
      `${method} ${path}`,
    );
  }
  const request = caller as HttpRequest;
  const scope = typeof caller === 'string' ? caller : await (scopeOf?.(caller) ?? callerOf(request).scope);
  const sent = keyFromHeader(
    { headers: { 'idempotency-key': key } } as unknown as HttpRequest,
    'idempotency-key',
  )!;
  return { key: sent, operation: found[0]!, scope };
}
