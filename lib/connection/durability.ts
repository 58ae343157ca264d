import * as check from '../atomic-redis.validation.js';
import { NotReplicatedError } from '../atomic-redis.errors.js';
import { Deadline } from '../runtime/deadline.js';

/**
 * Waits for replicas before a change is reported as made, by Redis's WAIT. It narrows the window in which a failover loses what was acknowledged; it does not close it: the replica that is promoted may be one that had not
 * answered. https://redis.io/docs/latest/commands/wait/
 */
export interface DurabilityOptions {
  /** Number of replicas that must have the change. */
  replicas: number;
  /** Time to wait for them, in milliseconds. @default 1000 */
  timeoutMs?: number;
  /**
   * Also until master and replicas have it on disk, by WAITAOF: needs Redis 7.2 or Valkey, with `appendonly yes`. Then `replicas` may be 0. @default false
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
  checkProperties(path, value);
  const { replicas, fsync } = value as DurabilityOptions;
  if (!fsync) check.integer(1, 1_000)(`${path}.replicas`, replicas);
};

/** Copies options that were checked, for a call that reads them again later. */
export const copyDurability = (given: DurabilityOptions | undefined): DurabilityOptions | undefined => {
  if (!given) return undefined;
  const { replicas, timeoutMs, fsync } = given;
  return { replicas, ...(timeoutMs !== undefined && { timeoutMs }), ...(fsync !== undefined && { fsync }) };
};

/** How long replicas are waited for, from now. */
export const replicationDeadline = ({ timeoutMs = 1_000 }: DurabilityOptions): Deadline =>
  Deadline.in(timeoutMs);

/** How long the answer to the last WAIT, which ends no sooner than the patience does, may take to arrive. */
const LAST_ANSWER_MS = 500;

/** By when a call that was sent is answered, if it waits for replicas until then. */
export const replyDeadline = (patience: Deadline): Deadline => patience.plus(LAST_ANSWER_MS);

/**
 * What a call makes of the reply of its script, also where replicas did not have it in time: then its error holds that result, unless nothing was changed.
 *
 * @throws NotReplicatedError, and what `step` and `toResult` throw
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
