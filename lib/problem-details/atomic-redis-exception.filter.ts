import { Catch, Logger, type HttpException, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { throwError } from 'rxjs';
import { AtomicRedisError, withoutStandIn } from '../atomic-redis.errors.js';
import { grpcErrorOf } from './grpc-status.js';
import { atEdge, type RouteResponse } from './http-exception.js';
import { errorMessageOf, problemOf } from './problem.js';
import { sendException } from './ws-exception.js';

/**
 * Answers this library's errors in the form of each transport, with their `code`, `outcome` and `retryable`: over HTTP as problem details,
 * `application/problem+json`; over gRPC as a status with metadata; to another microservice's client as the error object; over GraphQL in the error's `extensions`; over a WebSocket as an
 * `exception` message. Elsewhere the caller gets the error itself. https://www.rfc-editor.org/rfc/rfc9457
 *
 * The module sets it for the whole application. Nest has no filters for all gateways, so a gateway needs
 * `@UseFilters(AtomicRedisExceptionFilter)`, and a microservice that is connected to an HTTP application `{ inheritAppConfig: true }`.
 */
@Catch(AtomicRedisError)
export class AtomicRedisExceptionFilter implements ExceptionFilter<AtomicRedisError> {
  private readonly logger = new Logger(AtomicRedisExceptionFilter.name);

  constructor(private readonly adapterHost: HttpAdapterHost) {}

  catch(caught: AtomicRedisError, host: ArgumentsHost): unknown {
    const type = host.getType<string>();
    if (type === 'http') return this.answer(caught, host);
    const error = withoutStandIn(caught);
    if (problemOf(error).problem.status >= 500) this.logger.error(error.message, error.stack);
    switch (type) {
      case 'rpc':
        return throwError(() => grpcErrorOf(error, host) ?? errorMessageOf(error));
      case 'ws':
        return sendException(errorMessageOf(error), host);
      case 'graphql':
        return graphqlError(error);
      default:
        // The value that a filter returns counts as the handler's where no form of errors is known: a message would be acknowledged.
        throw error;
    }
  }

  /** An error from a guard or an interceptor comes as it was thrown; one from a handler as an HttpException. */
  private answer(error: AtomicRedisError, host: ArgumentsHost): void {
    const { httpAdapter } = this.adapterHost;
    const response = host.switchToHttp().getResponse<RouteResponse>();
    const exception = atEdge(error, response) as HttpException;
    if (httpAdapter.isHeadersSent(response)) {
      httpAdapter.end(response);
      return;
    }
    httpAdapter.setHeader(response, 'Content-Type', 'application/problem+json');
    // As text: for an object, Nest 11 on Express changes the content type to application/json, and warns of it.
    httpAdapter.reply(response, JSON.stringify(exception.getResponse()), exception.getStatus());
  }
}

/** What is returned for a resolver counts as thrown if it is an Error; `extensions` go to the client. */
function graphqlError(error: AtomicRedisError): Error {
  const { message, status: _, ...extensions } = errorMessageOf(error);
  return Object.assign(new Error(message, { cause: error }), { extensions });
}
