import { InvalidArgumentError } from '../atomic-redis.errors.js';
import type { Check } from '../atomic-redis.validation.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { AsyncScope } from '../runtime/async-scope.js';
import type { CommitParticipant } from '../scripting/commit-participant.js';

/** A permit that is held: one of the places of its name. */
export interface Permit {
  /** The name that it was acquired by. */
  readonly name: string;
  /** Its place, from 0: always 0 where the limit is 1. */
  readonly slot: number;
  /**
   * A number that is greater than that of every permit which had this slot before. A store that
   * keeps the greatest number it has seen, and refuses smaller ones, is safe from a holder that
   * lost its permit without knowing.
   */
  readonly fence: number;
  /**
   * Aborts with a `LeaseLostError` when the permit was lost, with a `ModuleClosedError` when the
   * module was closed.
   */
  readonly signal: AbortSignal;
  /**
   * Gives the permit to the first that waits for it. Repeating it does nothing more.
   *
   * @returns false when the permit had been lost; `signal` has aborted then. True where it went to
   * the next caller within the process: a loss that no renewal has reported by then is not found
   * out
   * @throws RedisUnavailableError, OutcomeUnknownError; the permit ends with its lease then, and it
   * may be called again
   */
  release(): Promise<boolean>;
}

/** A permit, or `'current'` for the innermost one that the calling code runs under. @inline */
export type PermitReference = Permit | 'current';

/** The internals by which Redis checks a permit. */
export const ENFORCEMENT = Symbol('nestjs-atomic-redis:enforcement');

/** The check of a permit in Redis. */
export interface Enforcement {
  readonly connection: RedisConnection;
  /** The holder's own key: it holds the token for as long as the permit is held. */
  readonly key: string;
  readonly token: string;
  /** Makes a participant for one transaction. */
  participant(): CommitParticipant;
}

const isEnforceable = (value: unknown): value is { readonly [ENFORCEMENT]: Enforcement } =>
  typeof value === 'object' && value !== null && ENFORCEMENT in value;

/** Accepts a permit of this library, or `'current'`. */
export const checkPermit: Check = (path, value) => {
  if (value !== 'current' && !isEnforceable(value))
    throw new InvalidArgumentError(path, "a permit that PermitService gave, or 'current'", value);
};

const scopes = new AsyncScope<Permit>();

/** Runs `body` under the permit. */
export const runUnderPermit = <T>(permit: Permit, body: () => T): T => scopes.run(permit, body);

/** Returns the innermost permit that the calling code runs under. */
export const currentPermit = (): Permit | undefined => scopes.find();

/**
 * Returns the check of a permit.
 * @throws InvalidArgumentError if it is another registration's, or `'current'` outside of any
 */
export function enforcementOf(permit: PermitReference, connection: RedisConnection): Enforcement {
  const given = permit === 'current' ? currentPermit() : permit;
  if (!given)
    throw new InvalidArgumentError(
      'options.permit',
      "a permit: 'current' works inside @WithPermit(), withPermit() and lead()",
      permit,
    );
  checkPermit('options.permit', given);
  const enforcement = (given as unknown as { readonly [ENFORCEMENT]: Enforcement })[ENFORCEMENT];
  if (enforcement.connection === connection) return enforcement;
  throw new InvalidArgumentError('options.permit', 'a permit of the same registration', given);
}

/** Tells how a permit is put into the slot of the keys that it protects. */
export const PERMIT_COLOCATION =
  'The last is the permit: give its name the hash tag of the keys, as in "stock:{42}" for "{42}:sold".';
