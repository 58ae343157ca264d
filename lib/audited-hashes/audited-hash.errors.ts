import { AtomicRedisError, describe } from '../atomic-redis.errors.js';

/** The log holds an entry that this library did not write. Nothing was changed. */
export class NotAnAuditLogError extends AtomicRedisError {
  readonly code = 'NOT_AN_AUDIT_LOG';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(readonly log: string) {
    super(`${describe(log)} is not an audit log: it holds an entry of another form`);
  }
}
