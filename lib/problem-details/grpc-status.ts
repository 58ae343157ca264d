import type { ArgumentsHost } from '@nestjs/common';
import type { AtomicRedisError } from '../atomic-redis.errors.js';
import { problemOf } from './problem.js';

/** Status codes of https://grpc.io/docs/guides/status-codes/. */
enum Status {
  UNKNOWN = 2,
  INVALID_ARGUMENT = 3,
  ALREADY_EXISTS = 6,
  RESOURCE_EXHAUSTED = 8,
  FAILED_PRECONDITION = 9,
  ABORTED = 10,
  INTERNAL = 13,
  UNAVAILABLE = 14,
}

/** Statuses of errors for which the HTTP status alone does not decide. */
const OF_CODE: Readonly<Record<string, Status>> = {
  TRANSACTION_CONFLICT: Status.ABORTED,
  IDEMPOTENCY_IN_FLIGHT: Status.ABORTED,
  IDEMPOTENCY_RESULT_UNAVAILABLE: Status.ALREADY_EXISTS,
  COUNTER_LIMIT: Status.RESOURCE_EXHAUSTED,
};

const OF_HTTP_STATUS: Readonly<Record<number, Status>> = {
  400: Status.INVALID_ARGUMENT,
  409: Status.FAILED_PRECONDITION,
  422: Status.FAILED_PRECONDITION,
  429: Status.RESOURCE_EXHAUSTED,
};

/** The part of @grpc/grpc-js's `Metadata` that is used. The package is the application's. */
interface Metadata {
  getMap(): unknown;
  set(key: string, value: string): void;
}

/** An error as @grpc/grpc-js sends it. */
export interface GrpcError {
  readonly code: number;
  readonly details: string;
  readonly message: string;
  readonly metadata: Metadata;
}

/**
 * Makes the error for a client over gRPC: a status of its kind, and metadata with `code`,
 * `outcome`, `retryable` and, if it is known, `retry-after` in seconds. A client that repeats calls
 * by itself obeys `grpc-retry-pushback-ms`: not before that time, and never (`-1`) if a repeated
 * call may do its work twice.
 *
 * @returns undefined for a call that did not come over gRPC
 */
export function grpcErrorOf(error: AtomicRedisError, host: ArgumentsHost): GrpcError | undefined {
  const given = host.switchToRpc().getContext<Partial<Metadata> | undefined>();
  if (typeof given?.getMap !== 'function' || typeof given.set !== 'function') return undefined;
  const metadata = new (given.constructor as new () => Metadata)();
  const { problem, retryAfterMs } = problemOf(error);
  const { detail, code, outcome, retryable } = problem;
  metadata.set('code', code);
  metadata.set('outcome', outcome);
  metadata.set('retryable', String(retryable));
  if (!retryable) metadata.set('grpc-retry-pushback-ms', '-1');
  else if (retryAfterMs !== undefined) {
    metadata.set('retry-after', String(Math.max(1, Math.ceil(retryAfterMs / 1_000))));
    metadata.set('grpc-retry-pushback-ms', String(Math.ceil(retryAfterMs)));
  }
  return { code: statusOf(error, problem.status), details: detail, message: detail, metadata };
}

/**
 * Clients and meshes repeat calls that are UNAVAILABLE, so only calls that may be repeated have
 * this status.
 */
function statusOf({ code, outcome, retryable }: AtomicRedisError, httpStatus: number): Status {
  const known = OF_CODE[code] ?? OF_HTTP_STATUS[httpStatus];
  if (known !== undefined) return known;
  if (retryable) return Status.UNAVAILABLE;
  return outcome === 'unknown' ? Status.UNKNOWN : Status.INTERNAL;
}
