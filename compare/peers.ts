import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { JobName } from './tool.js';
import type { Outcome } from './verdict.js';

/** One row of the matrix. Its code is in `peers/<job>/<id>.ts`. */
export interface Peer {
  readonly job: JobName;
  readonly id: string;
  readonly name: string;
  /** Packages whose versions the table names. */
  readonly packages: readonly string[];
  readonly isOurs?: true;
  /** A command, with an option of it, that the server must have. */
  readonly needs?: string;
  /** Shown for comparison: it is wrong even without a fault. */
  readonly isUnprotected?: true;
  /** Printed beside the link to its code. */
  readonly about?: string;
  /**
   * Faults under which our documentation itself promises less. Any other outcome there is
   * unexpected.
   */
  readonly documented?: Readonly<Record<string, Documented>>;
  /** Reasons for other cells. */
  readonly remarks?: Readonly<Record<string, string>>;
}

interface Documented {
  readonly outcomes: readonly Outcome[];
  readonly why: string;
}

const AT_LEAST_ONCE: Documented = {
  outcomes: ['doubled'],
  why: 'an effect outside Redis happens [at least once](idempotency.md#what-is-not-guaranteed): a process that died or paused may already have made the effect',
};
const RESULT_NOT_STORED: Documented = {
  outcomes: ['doubled', 'told wrongly'],
  why: 'Redis was away for longer than the lease, and the result [could not be stored](idempotency.md#what-is-not-guaranteed)',
};
const STILL_ACTS: Documented = {
  outcomes: ['doubled'],
  why: 'a process that is stopped [between the fence and the effect](steps.md#what-a-step-promises) acts when it wakes; give the third party `step.key`',
};
const HELD: Documented = {
  outcomes: ['held'],
  why: 'held for an operator, since what happened cannot be known ([held keys](unknown-outcomes.md))',
};
const JOB_TWICE: Documented = {
  outcomes: ['doubled'],
  why: 'a job is delivered [at least once](queues.md#how-it-is-done-here)',
};
const losesWrites = (...outcomes: Outcome[]): Documented => ({
  outcomes,
  why: 'a failover [loses what had not been replicated](durability.md); the option `durability` is not set here',
});
/**
 * A record of the first effect is lost, so another call makes a second one, and gets another
 * result.
 */
const LOSES_RECORDS = losesWrites('doubled', 'told wrongly');
const COMMON = 'Written by us, as commonly seen.';

export const PEERS: readonly Peer[] = [
  {
    job: 'run-once',
    id: 'idempotent',
    name: '@Idempotent()',
    packages: [],
    isOurs: true,
    documented: {
      kill: AT_LEAST_ONCE,
      'stopped-after': AT_LEAST_ONCE,
      'stopped-before': AT_LEAST_ONCE,
      stall: AT_LEAST_ONCE,
      slow: RESULT_NOT_STORED,
      'failover-lossy': LOSES_RECORDS,
    },
  },
  {
    job: 'run-once',
    id: 'idempotent-probe',
    name: '@Idempotent(), step with a probe',
    packages: [],
    isOurs: true,
    about: 'Its third party can be asked by key; no other row uses that.',
    documented: { 'stopped-before': STILL_ACTS, slow: HELD, 'failover-lossy': LOSES_RECORDS },
  },
  {
    job: 'run-once',
    id: 'idempotent-hold',
    name: '@Idempotent({ onAbandoned: hold })',
    packages: [],
    isOurs: true,
    documented: {
      kill: HELD,
      'kill-before': HELD,
      'stopped-after': HELD,
      'stopped-before': HELD,
      stall: HELD,
      slow: HELD,
      'failover-lossy': LOSES_RECORDS,
    },
  },
  {
    job: 'run-once',
    id: 'node-idempotency',
    name: '@node-idempotency/core',
    packages: ['@node-idempotency/core', '@node-idempotency/storage-adapter-redis'],
    about: 'A call in progress has a time to live of its own, 2 s here; a result has the default, a day.',
  },
  {
    job: 'run-once',
    id: 'powertools',
    name: 'Powertools idempotency',
    packages: ['@aws-lambda-powertools/idempotency', 'redis'],
    about:
      'Its lease is the time that a Lambda has left. Here that is 2 s for each call, and nothing ends the process after them.',
  },
  {
    job: 'run-once',
    id: 'tutorial-interceptor',
    name: 'interceptor of a tutorial',
    packages: ['ioredis'],
    about: COMMON,
  },
  {
    job: 'read-modify-write',
    id: 'optimistic-retry',
    name: '@OptimisticRetry',
    packages: [],
    isOurs: true,
    documented: { 'failover-lossy': losesWrites('lost') },
  },
  { job: 'read-modify-write', id: 'node-redis-watch', name: 'node-redis WATCH loop', packages: ['redis'] },
  {
    job: 'read-modify-write',
    id: 'ioredis-watch',
    name: 'ioredis WATCH and multi()',
    packages: ['ioredis'],
    about: COMMON,
  },
  {
    job: 'read-modify-write',
    id: 'set-ifeq',
    name: 'SET IFEQ, ioredis',
    packages: ['ioredis'],
    needs: 'SET IFEQ',
    about: COMMON,
  },
  {
    job: 'read-modify-write',
    id: 'get-set',
    name: 'GET and SET, ioredis',
    packages: ['ioredis'],
    isUnprotected: true,
    about: COMMON,
  },
  {
    job: 'counter',
    id: 'counters',
    name: 'CounterService',
    packages: [],
    isOurs: true,
    documented: { 'failover-lossy': losesWrites('lost') },
  },
  { job: 'counter', id: 'ioredis-multi', name: 'ioredis multi()', packages: ['ioredis'] },
  { job: 'counter', id: 'ioredis-lua', name: 'ioredis defineCommand', packages: ['ioredis'] },
  { job: 'counter', id: 'node-redis-incr', name: 'node-redis INCR', packages: ['redis'] },
  { job: 'counter', id: 'increx', name: 'INCREX, ioredis', packages: ['ioredis'], needs: 'INCREX' },
  {
    job: 'lock',
    id: 'permit',
    name: '@WithPermit, @OptimisticRetry',
    packages: [],
    isOurs: true,
    documented: { 'failover-lossy': losesWrites('lost') },
    remarks: {
      kill: 'a process that dies in its transaction holds the permit [for longer than the lease](permits.md#what-a-permit-protects-and-what-not)',
    },
  },
  {
    job: 'lock',
    id: 'redlock-universal',
    name: 'redlock-universal',
    packages: ['redlock-universal', 'ioredis'],
  },
  {
    job: 'lock',
    id: 'redis-semaphore',
    name: 'redis-semaphore Mutex',
    packages: ['redis-semaphore', 'ioredis'],
  },
  {
    job: 'lock',
    id: 'delifeq',
    name: 'SET NX and DELIFEQ, ioredis',
    packages: ['ioredis'],
    needs: 'DELIFEQ',
  },
  {
    job: 'rate-limit',
    id: 'limits',
    name: 'LimitService',
    packages: [],
    isOurs: true,
    documented: { 'failover-lossy': losesWrites('lost') },
  },
  {
    job: 'rate-limit',
    id: 'rate-limiter-flexible',
    name: 'rate-limiter-flexible',
    packages: ['rate-limiter-flexible', 'ioredis'],
  },
  {
    job: 'rate-limit',
    id: 'incr-expire',
    name: 'INCR and EXPIRE, ioredis',
    packages: ['ioredis'],
    about: COMMON,
  },
  {
    job: 'queue',
    id: 'queue-consumer',
    name: '@QueueConsumer',
    packages: [],
    isOurs: true,
    documented: {
      kill: JOB_TWICE,
      'stopped-after': JOB_TWICE,
      'stopped-before': JOB_TWICE,
      stall: JOB_TWICE,
      slow: JOB_TWICE,
      'failover-lossy': losesWrites('lost', 'doubled'),
    },
  },
  {
    job: 'queue',
    id: 'completes-job',
    name: '@QueueConsumer, completesJob',
    packages: [],
    isOurs: true,
    documented: { 'failover-lossy': losesWrites('lost') },
  },
  {
    job: 'queue',
    id: 'bullmq',
    name: 'BullMQ',
    packages: ['bullmq', 'ioredis'],
    about: 'The connection of its Queue retries without a limit, as that of its Worker must.',
  },
  {
    job: 'queue',
    id: 'lpop',
    name: 'RPUSH and BLPOP, ioredis',
    packages: ['ioredis'],
    about: COMMON,
  },
];

const ROOT = join(__dirname, '..');

export const fileOf = ({ job, id }: Peer): string => join(__dirname, 'peers', job, `${id}.ts`);

export function versionOf(name: string): string {
  const text = readFileSync(join(ROOT, 'node_modules', name, 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
