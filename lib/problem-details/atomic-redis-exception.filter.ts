import { Catch, Logger, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { throwError } from 'rxjs';
import { AtomicRedisError } from '../atomic-redis.errors.js';
import { problemOf } from './problem.js';

/**
 * Answers this library's errors over HTTP as problem details, `application/problem+json`. Other transports get the error itself.
 * https://www.rfc-editor.org/rfc/rfc9457
 */
@Catch(AtomicRedisError)
export class AtomicRedisExceptionFilter implements ExceptionFilter<AtomicRedisError> {
  private readonly logger = new Logger(AtomicRedisExceptionFilter.name);

  constructor(private readonly adapterHost: HttpAdapterHost) {}

  catch(error: AtomicRedisError, host: ArgumentsHost): unknown {
    const type: string = host.getType();
    if (type === 'rpc' || type === 'ws') return throwError(() => error);
    if (type !== 'http') return error;

    const { httpAdapter } = this.adapterHost;
    const response: unknown = host.switchToHttp().getResponse();
    const { problem, retryAfterSeconds } = problemOf(error);
    if (problem.status >= 500) this.logger.error(error.message, error.stack);
    if (httpAdapter.isHeadersSent(response)) {
      httpAdapter.end(response);
      return undefined;
    }
    httpAdapter.setHeader(response, 'Content-Type', 'application/problem+json');
    if (retryAfterSeconds !== undefined)
      httpAdapter.setHeader(response, 'Retry-After', String(retryAfterSeconds));
    httpAdapter.reply(response, problem, problem.status);
    return undefined;
  }
}
