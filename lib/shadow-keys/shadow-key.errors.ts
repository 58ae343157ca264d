import { AtomicRedisError, describe } from '../atomic-redis.errors.js';

/**
 * A shadow key, or the connection that built it, was lost before it could take its live key's
 * place: it expired, was evicted or deleted, or its server changed. The live value was left as it
 * was.
 */
export class ShadowLostError extends AtomicRedisError {
  readonly code = 'SHADOW_LOST';
  readonly outcome = 'not-applied';
  readonly retryable = true;

  constructor(
    /** The live keys to replace. */
    readonly keys: readonly string[],
    why: string,
    options?: ErrorOptions,
  ) {
    super(
      `The shadow of ${keys.map(describe).join(', ')} was lost: ${why}. The live value was left as it was`,
      options,
    );
  }
}

/** The source wrote nothing, and an empty value is refused. The live value was left as it was. */
export class ShadowEmptyError extends AtomicRedisError {
  readonly code = 'SHADOW_EMPTY';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(readonly key: string) {
    super(
      `The source wrote nothing to replace ${describe(key)}, so the live value was left as it was. To delete it instead, ` +
        `pass onEmpty: 'delete'`,
    );
  }
}

/** A write came after its build had ended, so it is not in the new value. Await every write. */
export class ShadowBuildEndedError extends AtomicRedisError {
  readonly code = 'SHADOW_BUILD_ENDED';
  readonly outcome = 'not-applied';
  readonly retryable = false;

  constructor(readonly key: string) {
    super(
      `A write for ${describe(key)} came after its build had ended, so it was left out; await every write of a build`,
    );
  }
}
