import { Catch, Logger, type HttpException, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { throwError } from 'rxjs';
import { AtomicRedisError, withoutStandIn } from '../atomic-redis.errors.js';
import { grpcErrorOf } from './grpc-status.js';
import { atEdge, type RouteResponse } from './http-exception.js';
import { errorMessageOf, problemOf } from './problem.js';
import { sendException } from './ws-exception.js';

/**
 * Sends this library's errors in the form of each transport, with their `code`, `outcome` and
 * `retryable`:
 *
 * - over HTTP as problem details, `application/problem+json`
 *   (https://www.rfc-editor.org/rfc/rfc9457);
 * - over gRPC as a status with metadata;
 * - to another microservice's client as the error object;
 * - over GraphQL in the error's `extensions`;
 * - over a WebSocket as an `exception` message.
 *
 * On any other transport the caller gets the error itself.
 *
 * The module sets the filter for the whole application. Nest has no filters for all gateways, so a
 * gateway needs `@UseFilters(AtomicRedisExceptionFilter)`. A microservice that is connected to an
 * HTTP application needs `{ inheritAppConfig: true }`.
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
        // On a transport without a form for errors, a value that the filter returns counts as the
        // handler's: a message would be acknowledged.
        throw error;
    }
  }

  /**
   * Sends an error over HTTP. Guards and interceptors throw the error itself; from a handler it
   * comes as an HttpException.
   */
  private answer(error: AtomicRedisError, host: ArgumentsHost): void {
    const { httpAdapter } = this.adapterHost;
    const response = host.switchToHttp().getResponse<RouteResponse>();
    const exception = atEdge(error, response) as HttpException;
    if (httpAdapter.isHeadersSent(response)) {
      httpAdapter.end(response);
      return;
    }
    httpAdapter.setHeader(response, 'Content-Type', 'application/problem+json');
    // Sent as text: for an object, Nest 11 on Express would change the content type to
    // application/json.
    httpAdapter.reply(response, JSON.stringify(exception.getResponse()), exception.getStatus());
  }
}

/**
 * Makes the error of a resolver. Nest throws an Error that a filter returns; its `extensions` go to
 * the client.
 */
function graphqlError(error: AtomicRedisError): Error {
  const { message, status: _, ...extensions } = errorMessageOf(error);
  return Object.assign(new Error(message, { cause: error }), { extensions });
}
