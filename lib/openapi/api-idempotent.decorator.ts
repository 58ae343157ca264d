import { ApiHeader } from '@nestjs/swagger';
import { ConfigurationError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { idempotentMarkOf } from '../idempotency/idempotent-mark.js';
import { KEY_PATTERN } from '../idempotency/http/http-request.js';
import {
  checkHeaders,
  checkPreset,
  resolveHeaders,
  type IdempotencyHeaders,
  type IdempotencyPreset,
} from '../idempotency/http/idempotency-headers.js';
import { documentProblems, responsesOf, setResponses } from './problem-responses.js';
import type { ProblemCode } from './problem-examples.js';

/**
 * The module's `idempotency` options that differ from the library's defaults. A decorator cannot
 * read them. @inline
 */
export interface ApiIdempotentOptions {
  /** @default true */
  required?: boolean;
  /** @default 'refuse' */
  onDuplicate?: 'refuse' | 'wait';
  /** @default 'refuse' */
  onUnavailable?: 'refuse' | 'run';
  /** @default 'ietf' */
  preset?: IdempotencyPreset;
  /** Default: the preset's. */
  headers?: IdempotencyHeaders;
}

const checkApiIdempotentOptions = check.options({
  required: check.boolean,
  onDuplicate: check.oneOf('refuse', 'wait'),
  onUnavailable: check.oneOf('refuse', 'run'),
  preset: checkPreset,
  headers: checkHeaders,
} satisfies Record<keyof ApiIdempotentOptions, check.Check>);

/**
 * Documents a route with `@Idempotent()`, from that decorator's own options: the header of the key,
 * the header that marks a replay, and the problems of the route. It stands above `@Idempotent()`.
 * It also stands above `@ApiResponse()` for success, and adds the header of a replay to that
 * response; without one it adds a response `2XX`.
 *
 * ```ts
 * @Post() @ApiIdempotent() @Idempotent()
 * create(@Body() dto: CreateOrderDto) {}
 * ```
 *
 * @throws ConfigurationError at once when the method has no `@Idempotent()` below
 * @throws InvalidArgumentError for a wrong option
 */
export function ApiIdempotent(options: ApiIdempotentOptions = {}): MethodDecorator {
  checkApiIdempotentOptions('@ApiIdempotent', options);
  return (target, key, descriptor: PropertyDescriptor): void => {
    const method = descriptor.value as object;
    const mark = idempotentMarkOf(method);
    if (!mark) {
      throw new ConfigurationError(
        `${target.constructor.name}.${String(key)}: @ApiIdempotent() describes @Idempotent(), and must stand above it`,
      );
    }
    const {
      required = options.required ?? true,
      onDuplicate = options.onDuplicate ?? 'refuse',
      onUnavailable = options.onUnavailable ?? 'refuse',
    } = mark;
    const headers = resolveHeaders(options.preset, { ...options.headers, ...mark.headers });
    if (!mark.hasKey) ApiHeader(headerOf(headers.key, required))(target, key, descriptor);
    documentReplay(method, onDuplicate, headers, !mark.hasKey);
    const problems: ProblemCode[] = [
      'IDEMPOTENCY_IN_FLIGHT',
      'IDEMPOTENCY_RESULT_UNAVAILABLE',
      'IDEMPOTENCY_MISMATCH',
      'IDEMPOTENCY_CALLER_MISMATCH',
      'IDEMPOTENCY_OUTCOME_UNKNOWN',
    ];
    if (!mark.hasKey) problems.unshift('IDEMPOTENCY_KEY_INVALID');
    if (!mark.hasKey && required) problems.unshift('IDEMPOTENCY_KEY_MISSING');
    if (onUnavailable === 'refuse') problems.push('REDIS_UNAVAILABLE');
    documentProblems(problems, target, key, descriptor);
  };
}

const headerOf = (name: string, required: boolean) => ({
  name,
  required,
  description:
    'Chosen by the client, for example a UUID. A request with the key of an earlier one is not processed again; it gets the first response. ' +
    `The same key with another payload is refused.${required ? '' : ' A request without a key is processed each time.'}`,
  schema: { type: 'string', pattern: KEY_PATTERN.source },
});

/** Marks responses of success. Those to errors are replayed too, but are described elsewhere. */
function documentReplay(
  method: object,
  onDuplicate: 'refuse' | 'wait',
  { key, replayed: mark, echo }: Required<IdempotencyHeaders>,
  isKeyInHeader: boolean,
): void {
  const responses = responsesOf(method);
  const successes = Object.keys(responses).filter((status) => status.startsWith('2'));
  const replayed = {
    description:
      'Present only if this is the response to an earlier request with the same key' +
      (onDuplicate === 'wait' ? ', which may have been waited for' : ''),
    schema: { type: 'string', enum: ['true'] },
  };
  for (const status of successes.length > 0 ? successes : ['2XX']) {
    const { description = 'Success', headers, ...rest } = responses[status] ?? {};
    const own = {
      ...(mark === false ? {} : { [mark]: replayed }),
      ...(echo && isKeyInHeader
        ? { [key]: { description: 'The key of the request', schema: { type: 'string' } } }
        : {}),
    };
    responses[status] = { ...rest, description, headers: { ...headers, ...own } };
  }
  setResponses(method, responses);
}
