import type { RedisConnection } from '../../connection/redis-connection.js';

/** The companions of a record, in its slot. */
export interface StepKeys {
  readonly record: string;
  /** The steps of its runs. */
  readonly steps: string;
  /** The records of the slot that an operator may have to look at. */
  readonly index: string;
}

export function stepKeysOf({ keys, isCluster }: RedisConnection, record: string): StepKeys {
  return {
    record,
    steps: keys.colocated('steps', record),
    index: isCluster ? keys.pinned('held', keys.slotOf(record), 'index') : keys.global('held', 'index'),
  };
}
