import * as check from '../atomic-redis.validation.js';
import { NotReplicatedError } from '../atomic-redis.errors.js';
import { Deadline } from '../runtime/deadline.js';

/**
 * Waits for replicas before a change is reported as made, by Redis's WAIT. It narrows the window in
 * which a failover loses acknowledged changes, but does not close it: the promoted replica may be
 * one that had not answered. https://redis.io/docs/latest/commands/wait/
 */
export interface DurabilityOptions {
  /** Number of replicas that must have the change. */
  replicas: number;
  /** Time to wait for them, in milliseconds. @default 1000 */
  timeoutMs?: number;
  /**
   * Wait also until master and replicas have it on disk, by WAITAOF. Needs Redis 7.2 or Valkey,
   * with `appendonly yes`. Then `replicas` may be 0. @default false
   */
  fsync?: boolean;
}

const checkProperties = check.options(
  {
    replicas: check.integer(0, 1_000),
    timeoutMs: check.waitMs(),
    fsync: check.boolean,
  } satisfies Record<keyof DurabilityOptions, check.Check>,
  'replicas',
);

export const checkDurability: check.Check = (path, value) => {
  if (value === false) return;
  checkProperties(path, value);
  const { replicas, fsync } = value as DurabilityOptions;
  if (!fsync) check.integer(1, 1_000)(`${path}.replicas`, replicas);
};

/** Copies checked options, for a call that reads them again later. */
export const copyDurability = (
  given: DurabilityOptions | false | undefined,
): DurabilityOptions | undefined => {
  if (!given) return undefined;
  const { replicas, timeoutMs, fsync } = given;
  return { replicas, ...(timeoutMs !== undefined && { timeoutMs }), ...(fsync !== undefined && { fsync }) };
};

/** Returns the time until which replicas are waited for. */
export const replicationDeadline = ({ timeoutMs = 1_000 }: DurabilityOptions): Deadline =>
  Deadline.in(timeoutMs);

/**
 * The time for the reply to the last WAIT, which ends no sooner than the wait for replicas, in
 * milliseconds.
 */
const LAST_ANSWER_MS = 500;

/** Returns the time by which a call that waits for replicas is answered. */
export const replyDeadline = (patience: Deadline): Deadline => patience.plus(LAST_ANSWER_MS);

/**
 * Converts the reply of a script to the call's result. If replicas did not have the change in time,
 * the error holds that result.
 *
 * @throws NotReplicatedError, and the errors of `step` and `toResult`
 */
export async function resultOf<Reply, Result>(
  step: Promise<Reply>,
  toResult: (reply: Reply) => Result,
  isChange: (result: Result, reply: Reply) => boolean = () => true,
): Promise<Result> {
  try {
    return toResult(await step);
  } catch (error) {
    if (!(error instanceof NotReplicatedError)) throw error;
    const reply = error.result as Reply;
    const result = toResult(reply);
    if (!isChange(result, reply)) return result;
    throw error.withResult(result);
  }
}
