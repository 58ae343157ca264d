/**
 * A managed service or proxy, as its own documentation describes it. docs/servers.md names the
 * pages.
 */
export interface ServiceProfile {
  /** Commands that it answers with "unknown command". */
  readonly missing: readonly string[];
  /** Commands that it refuses inside a MULTI only. */
  readonly outsideMulti?: readonly string[];
  /** Commands that it answers with OK, to no effect. */
  readonly ineffective?: readonly string[];
  /** ACL rules of the user; default: every right. */
  readonly rules?: readonly string[];
  /** Commands that the log must name as refused. */
  readonly told?: readonly string[];
  /** Calls that the service does not allow, by their names in `managed-services.spec.ts`. */
  readonly notAllowed?: readonly string[];
}

const RESTRICTED_BY_AWS = [
  'BGREWRITEAOF',
  'BGSAVE',
  'CONFIG',
  'DEBUG',
  'MIGRATE',
  'REPLICAOF',
  'SAVE',
  'SLAVEOF',
  'SHUTDOWN',
  'SYNC',
];

const SCRIPTS = ['EVAL', 'EVALSHA', 'EVAL_RO', 'EVALSHA_RO', 'SCRIPT'];

export const SERVICE_PROFILES: Readonly<Record<string, ServiceProfile>> = {
  'Amazon ElastiCache, a user without dangerous commands': {
    missing: RESTRICTED_BY_AWS,
    // INFO and ROLE are among the dangerous ones.
    rules: ['~*', '&*', '+@all', '-@dangerous'],
  },
  'Amazon ElastiCache Serverless': {
    missing: RESTRICTED_BY_AWS,
    outsideMulti: [...SCRIPTS, 'TIME', 'WAIT', 'SPUBLISH', 'BLMOVE'],
  },
  'Amazon MemoryDB': { missing: [...RESTRICTED_BY_AWS, 'ACL', 'MODULE', 'PSYNC'] },
  'Google Memorystore for Redis': {
    missing: ['ACL', 'CLIENT', 'CLUSTER', 'COMMAND', 'CONFIG', 'DEBUG', 'OBJECT', 'REPLICAOF'],
  },
  'Azure Cache for Redis': {
    missing: [
      'ACL',
      'BGREWRITEAOF',
      'BGSAVE',
      'CONFIG',
      'DEBUG',
      'MIGRATE',
      'PSYNC',
      'REPLICAOF',
      'REPLCONF',
      'SAVE',
      'SHUTDOWN',
      'SLAVEOF',
      'SYNC',
    ],
  },
  Upstash: {
    missing: ['CLIENT', 'CLUSTER', 'COMMAND', 'CONFIG', 'INFO', 'ROLE', 'SPUBLISH', 'SSUBSCRIBE', 'WAIT'],
    told: ['WAIT', 'SPUBLISH'],
  },
  'Envoy, before one server': {
    missing: [
      'BLMOVE',
      'BZPOPMIN',
      'CLIENT',
      'COMMAND',
      'CONFIG',
      'COPY',
      'HELLO',
      'INFO',
      'RENAME',
      'ROLE',
      'SCRIPT',
      'SELECT',
      'SPUBLISH',
      'SSUBSCRIBE',
      'UNWATCH',
      'WAIT',
    ],
    // It goes to the server on a connection that all clients share.
    ineffective: ['WATCH'],
    told: ['SCRIPT LOAD', 'BLMOVE', 'RENAME', 'UNWATCH'],
    notAllowed: ['a transaction', 'a move that waits'],
  },
};
