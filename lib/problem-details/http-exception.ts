import { HttpException, Logger } from '@nestjs/common';
import { AtomicRedisError, standInFor } from '../atomic-redis.errors.js';
import type { HttpRequest } from '../http/http-request.js';
import { problemDetails, problemOf, type Problem } from './problem.js';
import { rateLimitFields, type LimitPolicy } from './rate-limit-fields.js';

const logger = new Logger('AtomicRedisExceptionFilter');

/** The response that handlers get: Express's own, or Fastify's reply around Node's. */
export interface RouteResponse {
  /** The request that it answers, on Express. */
  readonly req?: HttpRequest;
  /** The same on Fastify. */
  readonly request?: HttpRequest;
  readonly raw?: { readonly headersSent: boolean };
  readonly headersSent?: boolean;
  /** The application that serves the request, on Express. */
  readonly app?: object;
  /** The same on Fastify. */
  readonly server?: object;
  header?(name: string, value: string): unknown;
  setHeader?(name: string, value: string): unknown;
  removeHeader?(name: string): unknown;
  send?(): unknown;
  end?(): unknown;
}

/** The beginning of each application's `type` URLs, by the platform's own instance. */
const problemTypes = new WeakMap<object, string>();

/**
 * Sets the beginning of `type` in the problems of an application.
 * @param platform its instance of Express or Fastify
 */
export const setProblemType = (platform: object, base: string): void => void problemTypes.set(platform, base);

/**
 * Wraps an error of this library for Nest and any exception filter: with a status, and problem
 * details as its response.
 */
class ProblemException extends HttpException {
  constructor(error: AtomicRedisError, problem: Problem) {
    super(problem, problem.status, { cause: error });
    const { name, stack } = error;
    const { status } = problem;
    // The message may go to the client, so it is that of the problem. The error's own message may
    // name keys; it is logged.
    Object.assign(this, error, { name, message: problem.detail, response: problem, status });
    if (stack !== undefined) this.stack = stack;
    standInFor(error, this);
  }
}

/** Responses that have a Retry-After of this library. */
const told = new WeakSet<object>();

/**
 * Returns the error that a route throws in place of `error`: an HttpException for an error of this
 * library, any other error as it is. Sets `Retry-After` on the response, since a foreign filter
 * will not. Logs faults of the server, since Nest does not log an HttpException.
 */
export function atEdge(error: unknown, response: RouteResponse): unknown {
  if (!(error instanceof AtomicRedisError) || error instanceof HttpException) return error;
  const base = problemTypes.get(response.app ?? response.server ?? response);
  const problem = problemDetails(error, base);
  if (problem.status >= 500)
    logger.error(
      `${error.message} (${[problem.instance, problem.record].filter(Boolean).join(', ')})`,
      error.stack,
    );
  const { retryAfterMs } = problemOf(error);
  if (retryAfterMs !== undefined) tellRetryAfter(response, Math.max(1, Math.ceil(retryAfterMs / 1_000)));
  const { policies } = error as { policies?: readonly LimitPolicy[] };
  if (policies) tellLimits(response, policies);
  return new ProblemException(error, problem);
}

function tellRetryAfter(response: RouteResponse, seconds: number): void {
  if (setField(response, 'Retry-After', String(seconds))) told.add(response);
}

/** Sets the fields `RateLimit-Policy` and `RateLimit`. */
export function tellLimits(response: RouteResponse, policies: readonly LimitPolicy[]): void {
  for (const [name, value] of rateLimitFields(policies)) setField(response, name, value);
}

/** @returns false when the response has begun */
function setField(response: RouteResponse, name: string, value: string): boolean {
  if ((response.raw ?? response).headersSent) return false;
  if (response.header) response.header(name, value);
  else response.setHeader?.(name, value);
  return true;
}

/**
 * Removes the Retry-After of an earlier call of the handler, if an interceptor calls it again for
 * the same request.
 */
export function beginAgain(response: RouteResponse): void {
  if (!told.delete(response) || (response.raw ?? response).headersSent) return;
  response.removeHeader?.('Retry-After');
}
