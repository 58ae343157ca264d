/**
 * Routes of this library in an OpenAPI document by @nestjs/swagger: `nestjs-atomic-redis/openapi`.
 */
export { ApiIdempotent } from './api-idempotent.decorator.js';
export { ApiAtomicProblems } from './api-atomic-problems.decorator.js';
export { ProblemDetails } from './problem-details.js';
