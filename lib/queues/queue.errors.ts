import { AtomicRedisError, describe } from '../atomic-redis.errors.js';
import type { SchemaIssue } from './standard-schema.js';

/** Issues that the message names; the others are in the field. */
const NAMED_ISSUES = 5;

/**
 * A payload does not fit the schema of its queue. A push throws it before anything is sent, and
 * nothing is pushed. A job that was taken is in the dead letters with the message as its reason.
 */
export class InvalidPayloadError extends AtomicRedisError {
  readonly code = 'INVALID_PAYLOAD';
  readonly outcome = 'not-applied';
  readonly retryable = false;
  /** The schema's objections; `path` is empty for the payload as a whole. */
  readonly issues: readonly { readonly path: string; readonly message: string }[];

  constructor(
    readonly queue: string,
    issues: readonly SchemaIssue[],
  ) {
    const found = issues.map((issue) => ({ path: pathOf(issue), message: issue.message }));
    const named = found
      .slice(0, NAMED_ISSUES)
      .map(({ path, message }) => (path === '' ? message : `${path}: ${message}`));
    const more = found.length > named.length ? [`${found.length - named.length} more`] : [];
    super(
      `The payload does not fit the schema of queue ${describe(queue)}: ${[...named, ...more].join('; ')}`,
    );
    this.issues = found;
  }
}

const pathOf = ({ path = [] }: SchemaIssue): string =>
  path.map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
