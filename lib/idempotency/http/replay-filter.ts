import { Catch, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import { throwError, type EmptyError } from 'rxjs';
import type { RouteResponse } from '../../problem-details/http-exception.js';
import { answerReplay, isReplay } from './http-exchange.js';

/** Matches the `EmptyError` of every copy of rxjs in the process. */
abstract class NoElements {
  static [Symbol.hasInstance](error: unknown): boolean {
    return error instanceof Error && error.name === 'EmptyError';
  }
}

/**
 * Ends the way of a replay through Nest. A replayed call completes without a value, so that
 * interceptors above see none; Nest then rejects with an `EmptyError`, which is no error here.
 *
 * `@Idempotent` sets it on the method, before all other filters of the route.
 */
@Catch(NoElements as never)
export class ReplayFilter implements ExceptionFilter<EmptyError> {
  catch(error: EmptyError, host: ArgumentsHost): unknown {
    const type = host.getType<string>();
    if (type === 'rpc') return throwError(() => error);
    if (type === 'graphql') return error;
    if (type !== 'http') throw error;
    // An Observable of the application without a value: the filters for the whole application
    // answer it.
    const http = host.switchToHttp();
    if (!isReplay(http.getRequest<object>())) throw error;
    answerReplay(http.getResponse<RouteResponse>());
    return undefined;
  }
}
