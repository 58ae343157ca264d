import { Catch, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import { throwError, type EmptyError } from 'rxjs';
import { isReplay } from './http-exchange.js';

interface AnyResponse {
  send?(): unknown;
  end(): unknown;
  readonly headersSent?: boolean;
  readonly sent?: boolean;
}

/** Matches the `EmptyError` of every copy of rxjs in the process. */
abstract class NoElements {
  static [Symbol.hasInstance](error: unknown): boolean {
    return error instanceof Error && error.name === 'EmptyError';
  }
}

/**
 * Ends the way of a replay through Nest. A replayed call completes without a value, so that interceptors above
 * see none; Nest then rejects with an `EmptyError`, which is no error here. The framework sends an empty
 * response, with the headers of this exchange, and the tap puts the recorded one in its place.
 *
 * `@Idempotent` sets it on the method, before all other filters of the route.
 */
@Catch(NoElements as never)
export class ReplayFilter implements ExceptionFilter<EmptyError> {
  catch(error: EmptyError, host: ArgumentsHost): unknown {
    const type = host.getType<string>();
    if (type === 'rpc') return throwError(() => error);
    if (type !== 'http') return error;
    // An Observable of the application without a value: the filters for the whole application answer it.
    if (!isReplay(host.switchToHttp().getRequest())) throw error;
    const response = host.switchToHttp().getResponse<AnyResponse>();
    if (response.sent ?? response.headersSent) return undefined;
    return response.send ? response.send() : response.end();
  }
}
