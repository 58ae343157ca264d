import type { RedisCommander } from 'ioredis';

/**
 * Commands that read keys and neither write nor block (XREAD without BLOCK). Commands without keys,
 * such as SCAN or DBSIZE, cannot be watched and are not here.
 */
export const READ_COMMANDS = [
  ...['exists', 'type', 'ttl', 'pttl', 'expiretime', 'pexpiretime', 'dump', 'object', 'sort_ro', 'touch'],
  ...['get', 'mget', 'getrange', 'substr', 'strlen', 'lcs', 'getbit', 'bitcount', 'bitpos', 'bitfield_ro'],
  ...['hget', 'hmget', 'hgetall', 'hexists', 'hkeys', 'hvals', 'hlen', 'hstrlen', 'hrandfield', 'hscan'],
  ...['httl', 'hpttl', 'hexpiretime', 'hpexpiretime'],
  ...['lindex', 'llen', 'lpos', 'lrange'],
  ...['scard', 'sismember', 'smismember', 'smembers', 'srandmember', 'sscan'],
  ...['sdiff', 'sinter', 'sintercard', 'sunion'],
  ...['zcard', 'zcount', 'zlexcount', 'zscore', 'zmscore', 'zrank', 'zrevrank', 'zrandmember', 'zscan'],
  ...['zdiff', 'zinter', 'zintercard', 'zunion'],
  ...['zrange', 'zrangebylex', 'zrangebyscore', 'zrevrange', 'zrevrangebylex', 'zrevrangebyscore'],
  ...['geodist', 'geohash', 'geopos', 'geosearch', 'georadius_ro', 'georadiusbymember_ro', 'pfcount'],
  ...['xlen', 'xrange', 'xrevrange', 'xinfo', 'xpending', 'xread'],
] as const;

/**
 * Commands that write keys of their own slot and do not block, and PUBLISH. Each runs inside
 * MULTI/EXEC.
 */
export const WRITE_COMMANDS = [
  ...['del', 'unlink', 'copy', 'rename', 'renamenx', 'restore', 'sort', 'publish', 'spublish'],
  ...['expire', 'pexpire', 'expireat', 'pexpireat', 'persist'],
  ...['set', 'setex', 'psetex', 'setnx', 'mset', 'msetnx', 'getset', 'getdel', 'getex', 'append', 'setrange'],
  ...['incr', 'incrby', 'incrbyfloat', 'decr', 'decrby', 'setbit', 'bitfield', 'bitop'],
  ...['hset', 'hmset', 'hsetnx', 'hdel', 'hincrby', 'hincrbyfloat'],
  ...['hexpire', 'hpexpire', 'hexpireat', 'hpexpireat', 'hpersist', 'hgetdel', 'hgetex', 'hsetex'],
  ...['lpush', 'lpushx', 'rpush', 'rpushx', 'lpop', 'rpop', 'lmove', 'rpoplpush', 'lmpop'],
  ...['linsert', 'lset', 'lrem', 'ltrim'],
  ...['sadd', 'srem', 'spop', 'smove', 'sdiffstore', 'sinterstore', 'sunionstore'],
  ...['zadd', 'zincrby', 'zrem', 'zpopmin', 'zpopmax', 'zmpop'],
  ...['zrangestore', 'zdiffstore', 'zinterstore', 'zunionstore'],
  ...['zremrangebylex', 'zremrangebyrank', 'zremrangebyscore'],
  ...['geoadd', 'geosearchstore', 'georadius', 'georadiusbymember', 'pfadd', 'pfmerge'],
  ...['xadd', 'xdel', 'xtrim', 'xack', 'xclaim', 'xautoclaim', 'xsetid'],
] as const;

/** Commands that take `{ field: value }` objects or Maps; anywhere else an object is a mistake. */
export const OBJECT_COMMANDS: ReadonlySet<string> = new Set(['hset', 'hmset', 'mset', 'msetnx']);

type ReadName = (typeof READ_COMMANDS)[number];
type WriteName = (typeof WRITE_COMMANDS)[number];

declare const queuedResult: unique symbol;

/** A write that waits for EXEC. It has no value before; `onReplies` receives what EXEC answered. */
export interface QueuedWrite<Result> {
  readonly [queuedResult]?: Result;
}

declare module 'ioredis/built/utils/RedisCommander.js' {
  // eslint-disable-next-line @typescript-eslint/no-unused-vars
  interface ResultTypes<Result, Context> {
    queuedWrite: QueuedWrite<Result>;
  }
}

/** A name's variant that answers in Buffers. */
type WithBuffer<Name extends string> = Name | `${Name}Buffer`;

/**
 * The read commands as ioredis types them: each is sent at once on the transaction's connection.
 */
export type TransactionReads = Pick<RedisCommander, Extract<keyof RedisCommander, WithBuffer<ReadName>>>;

type QueueingCommander = RedisCommander<{ type: 'queuedWrite' }>;

/** The write commands as ioredis types them: each is queued until EXEC. */
export type TransactionWrites = Pick<QueueingCommander, Extract<keyof QueueingCommander, WriteName>>;
