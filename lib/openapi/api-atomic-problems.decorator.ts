import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { isProblemCode, problemCodes, type ProblemCode } from './problem-examples.js';
import { documentProblems } from './problem-responses.js';

/**
 * Documents the problems of a route: those with the given codes, and those of any route that needs
 * Redis (503). On a class it holds for all routes. A route's own problems replace those of the
 * class with the same status.
 *
 * ```ts
 * @Post(':id/withdrawals') @ApiAtomicProblems('TRANSACTION_CONFLICT')
 * withdraw() {} // calls a method with @OptimisticRetry()
 * ```
 *
 * Like `@ApiResponse()` it keeps @nestjs/swagger from adding a response for success by itself.
 *
 * @throws InvalidArgumentError for a code that no response has
 */
export function ApiAtomicProblems(...codes: ProblemCode[]): MethodDecorator & ClassDecorator {
  for (const [i, code] of codes.entries())
    if (!isProblemCode(code))
      throw new InvalidArgumentError(`@ApiAtomicProblems[${i}]`, `one of ${problemCodes.join(', ')}`, code);
  return (target: object, key?: string | symbol, descriptor?: PropertyDescriptor): void =>
    documentProblems([...codes, 'REDIS_UNAVAILABLE', 'OUTCOME_UNKNOWN'], target, key, descriptor);
}
