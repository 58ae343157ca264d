import type { RedisConnection } from '../../connection/redis-connection.js';

/** The companions of a record, in its slot. */
export interface StepKeys {
  readonly record: string;
  /** The steps of its runs. */
  readonly steps: string;
  /** The records of the slot that an operator may have to look at. */
  readonly index: string;
}

export function stepKeysOf(connection: RedisConnection, record: string): StepKeys {
  const { keys, isCluster } = connection;
  return {
    record,
    steps: keys.colocated('steps', record),
    index: indexOf(connection, isCluster ? keys.slotOf(record) : 0),
  };
}

/** The index of a slot; one for all where there is no Cluster. */
export const indexOf = ({ keys, isCluster }: RedisConnection, slot: number): string =>
  isCluster ? keys.pinned('held', slot, 'index') : keys.global('held', 'index');
