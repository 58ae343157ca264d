import type { Fault, FaultProxy } from 'nestjs-atomic-redis/testing';

const WRITES = new Set(['SET', 'HSET', 'INCR', 'INCRBY', 'DECRBY', 'RENAME', 'EVALSHA', 'EXEC']);

export interface LabFault {
  /** The row of the table that counts it. */
  readonly label: string;
  readonly arm?: (proxy: FaultProxy) => Fault;
  /**
   * By SIGKILL, or by SIGSTOP and later SIGCONT, to a process that is in the middle of something.
   */
  readonly strike?: 'kill' | 'stop';
}

/** The faults between the shop's processes and Redis, for as long as a run lasts. */
export const FAULTS = {
  none: { label: 'Faults' },

  'lost-reply': {
    label: 'Replies lost',
    /**
     * Every 25th write is applied, its reply is lost, and its connection closes with all that waits
     * on it.
     */
    arm: (proxy) => {
      let writes = 0;
      const match = ({ name }: { name: string }): boolean => WRITES.has(name) && ++writes % 25 === 0;
      return proxy.loseReplies({ match, times: Infinity });
    },
  },

  'slow-redis': {
    label: 'Commands held back',
    /** Each holds up those behind it on its connection. */
    arm: (proxy) => proxy.delay({ requestMs: 2, times: Infinity }),
  },

  'killed-worker': { label: 'Processes killed', strike: 'kill' },
} satisfies Record<string, LabFault>;

/** Only where it is the point of a scenario. */
export const STOPPED_WORKER: LabFault = { label: 'Processes stopped', strike: 'stop' };

export type FaultName = keyof typeof FAULTS;
