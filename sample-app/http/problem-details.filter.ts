import { STATUS_CODES } from 'node:http';
import { Catch, HttpException, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { Response } from 'express';
import type { Problem } from './problem.dto.js';

/**
 * The shop's own errors as RFC 9457 problem details; the library's filter does the same for the
 * library's.
 */
@Catch(HttpException)
export class ProblemDetailsFilter implements ExceptionFilter<HttpException> {
  catch(exception: HttpException, host: ArgumentsHost): void {
    const status = exception.getStatus();
    const given = exception.getResponse();
    const { message, code, details } = (typeof given === 'string' ? { message: given } : given) as {
      message?: string | string[];
      code?: string;
      details?: object;
    };
    const problem: Problem = {
      title: STATUS_CODES[status] ?? 'Error',
      status,
      // A ValidationPipe has one message for each thing that is wrong.
      detail: Array.isArray(message) ? message.join('; ') : (message ?? exception.message),
      ...(code === undefined ? {} : { code }),
      // A health check names the parts that are down and their errors.
      ...(details === undefined ? {} : { details }),
    };
    host.switchToHttp().getResponse<Response>().status(status).type('application/problem+json').json(problem);
  }
}
