import { ApiExtraModels, getSchemaPath, type ApiResponseOptions } from '@nestjs/swagger';
import { STATUS_CODES } from 'node:http';
import { ProblemDetails } from './problem-details.js';
import { exampleOf, type ProblemCode } from './problem-examples.js';

/**
 * The metadata key of @nestjs/swagger's `@ApiResponse`. Depending on its version, that decorator
 * joins two descriptions of a status, or drops one.
 */
const RESPONSES = 'swagger/apiResponse';

type Response = Omit<ApiResponseOptions, 'status'>;

export const responsesOf = (target: object): Record<string, Response> => ({
  ...(Reflect.getMetadata(RESPONSES, target) as Record<string, Response> | undefined),
});

export const setResponses = (target: object, responses: Record<string, Response>): void =>
  Reflect.defineMetadata(RESPONSES, responses, target);

/** The documentation of one status by this library. */
interface Documented {
  readonly codes: readonly ProblemCode[];
  /** The application's own documentation of the status. */
  readonly own: Response | undefined;
}

const DOCUMENTED = Symbol('nestjs-atomic-redis:documented-problems');

/**
 * Adds a response for each status of the codes, with an example of each code, to a method, or to a
 * class for all of its routes. The application's own documentation of a status stays beside it.
 */
export function documentProblems(
  codes: readonly ProblemCode[],
  target: object,
  key?: string | symbol,
  descriptor?: PropertyDescriptor,
): void {
  const site = (descriptor?.value ?? target) as object;
  const responses = responsesOf(site);
  const documented = new Map(Reflect.getOwnMetadata(DOCUMENTED, site) as Map<number, Documented> | undefined);
  for (const code of codes) {
    const { status } = exampleOf(code).problem;
    const { codes: known = [], own = responses[status] } = documented.get(status) ?? {};
    documented.set(status, { codes: [...new Set([...known, code])], own });
  }
  for (const [status, one] of documented) responses[status] = problemResponse(status, one);
  setResponses(site, responses);
  Reflect.defineMetadata(DOCUMENTED, documented, site);
  const addModel = ApiExtraModels(ProblemDetails);
  if (key !== undefined && descriptor) addModel(target, key, descriptor);
  else (addModel as ClassDecorator)(target as () => void);
}

const MEDIA_TYPE = 'application/problem+json';

function problemResponse(status: number, { codes, own }: Documented): Response {
  const ownProblem = own?.content?.[MEDIA_TYPE];
  const schema = { $ref: getSchemaPath(ProblemDetails) };
  const examples = Object.fromEntries(codes.map((code) => [code, { value: exampleOf(code).problem }]));
  const retryAfter = {
    description: 'Seconds until the request may be sent again, if it may',
    schema: { type: 'integer', minimum: 1 },
  };
  const said = `${STATUS_CODES[status]}: ${codes.map((code) => `\`${code}\``).join(', ')}`;
  return {
    description: own?.description ? `${own.description}; ${said}` : said,
    headers: {
      ...own?.headers,
      ...(codes.some((code) => exampleOf(code).hasRetryAfter) ? { 'Retry-After': retryAfter } : {}),
    },
    content: {
      ...own?.content,
      [MEDIA_TYPE]: {
        schema: ownProblem?.schema ? { oneOf: [ownProblem.schema, schema] } : schema,
        examples: { ...ownProblem?.examples, ...examples },
      },
    },
  };
}
