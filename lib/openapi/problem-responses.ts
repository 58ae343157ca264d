import { ApiExtraModels, getSchemaPath, type ApiResponseOptions } from '@nestjs/swagger';
import { STATUS_CODES } from 'node:http';
import { ProblemDetails } from './problem-details.js';
import { exampleOf, type ProblemCode } from './problem-examples.js';

/** Where @nestjs/swagger keeps what its `@ApiResponse` was told. That decorator joins what two of them say, or drops it, as its version goes. */
const RESPONSES = 'swagger/apiResponse';

/** Codes that were documented on a method or class. */
const CODES = Symbol('nestjs-atomic-redis:documented-problems');

type Responses = Record<string, Omit<ApiResponseOptions, 'status'>>;

export const responsesOf = (target: object): Responses =>
  (Reflect.getMetadata(RESPONSES, target) as Responses | undefined) ?? {};

export const setResponses = (target: object, responses: Responses): void =>
  Reflect.defineMetadata(RESPONSES, responses, target);

/** Adds a response for each status that the codes have, with an example of each code; to a method, or to a class for all of its routes. */
export function documentProblems(
  codes: readonly ProblemCode[],
  target: object,
  key?: string | symbol,
  descriptor?: PropertyDescriptor,
): void {
  const documented = (descriptor?.value ?? target) as object;
  const known = (Reflect.getOwnMetadata(CODES, documented) as ProblemCode[] | undefined) ?? [];
  const all = [...new Set([...known, ...codes])];
  Reflect.defineMetadata(CODES, all, documented);
  const responses = { ...responsesOf(documented) };
  for (const status of new Set(all.map(statusOf))) {
    responses[status] = problemResponse(
      status,
      all.filter((code) => statusOf(code) === status),
    );
  }
  setResponses(documented, responses);
  const addModel = ApiExtraModels(ProblemDetails);
  if (key !== undefined && descriptor) addModel(target, key, descriptor);
  else (addModel as ClassDecorator)(target as () => void);
}

const statusOf = (code: ProblemCode): number => exampleOf(code).problem.status;

function problemResponse(status: number, codes: readonly ProblemCode[]): Responses[string] {
  const examples = Object.fromEntries(codes.map((code) => [code, { value: exampleOf(code).problem }]));
  const retryAfter = {
    description: 'In how many seconds the request may be sent again, where it may',
    schema: { type: 'integer', minimum: 1 },
  };
  return {
    description: `${STATUS_CODES[status]}: ${codes.map((code) => `\`${code}\``).join(', ')}`,
    ...(codes.some((code) => exampleOf(code).hasRetryAfter) ? { headers: { 'Retry-After': retryAfter } } : {}),
    content: { 'application/problem+json': { schema: { $ref: getSchemaPath(ProblemDetails) }, examples } },
  };
}
