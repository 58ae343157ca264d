import type { Redis } from 'ioredis';
import { replyCode } from './reply-errors.js';

type Command = readonly [name: string, ...args: string[]];

/** What transactions are made of, in an order in which it does nothing. */
const transaction = (key: string): Command[] => [['WATCH', key], ['UNWATCH'], ['MULTI'], ['EXEC']];

/** What the library sends besides, by itself and within its scripts: each once, with as many arguments as it must have. */
const others = (key: string): Command[] => [
  ['TIME'],
  ['WAIT', '0', '1'],
  ['SCRIPT', 'LOAD', 'return 0'],
  ['EVAL', 'return 0', '1', key],
  ['EVALSHA', '', '1', key],
  ['EVAL_RO', 'return 0', '1', key],
  ['EVALSHA_RO', '', '1', key],
  ['SPUBLISH', key, ''],
  ['GET', key],
  ['SET', key, '', 'XX'],
  ['DEL', key],
  ['UNLINK', key],
  ['EXISTS', key],
  ['TYPE', key],
  ['RENAME', key, key],
  ['COPY', key, key],
  ['PERSIST', key],
  ['PEXPIRE', key, '1'],
  ['PEXPIREAT', key, '1'],
  ['PTTL', key],
  ['HGET', key, ''],
  ['HEXISTS', key, ''],
  ['HLEN', key],
  ['HSET', key, '', ''],
  ['HDEL', key, ''],
  ['LINDEX', key, '0'],
  ['LLEN', key],
  ['LRANGE', key, '0', '0'],
  ['LMOVE', key, key, 'LEFT', 'LEFT'],
  ['BLMOVE', key, key, 'LEFT', 'LEFT', '1'],
  ['BZPOPMIN', key, '1'],
  ['LPOP', key],
  ['LPUSH', key, ''],
  ['LTRIM', key, '0', '0'],
  ['RPUSH', key, ''],
  ['XADD', key, 'NOMKSTREAM', '*', '', ''],
  ['XREVRANGE', key, '+', '-'],
  ['XTRIM', key, 'MAXLEN', '1'],
  ['ZADD', key, 'XX', '0', ''],
  ['ZCARD', key],
  ['ZCOUNT', key, '0', '0'],
  ['ZRANGE', key, '0', '0'],
  ['ZRANGEBYLEX', key, '-', '+'],
  ['ZRANGEBYSCORE', key, '0', '0'],
  ['ZREM', key, ''],
  ['ZREMRANGEBYRANK', key, '0', '0'],
  ['ZSCORE', key, ''],
];

/** What ioredis sends for the library besides where the server is a node of a Cluster: to follow a key whose slot is being moved. */
const ofClusters: readonly Command[] = [['ASKING']];

/**
 * Asks the server for the commands that it does not know, or that the user may not use on the key and channel of that name, without doing any: it
 * judges commands when a MULTI queues them, and DISCARD drops them. What it cannot or may not do for other reasons, such as too little memory or another owner of the slot, is not told.
 */
export async function refusedCommands(server: Redis, name: string, isCluster: boolean): Promise<string[]> {
  const alone = await answersOf(server, transaction(name));
  const refused = alone.filter(({ code }) => code === 'NOPERM').map(({ command }) => command);
  // Commands that no MULTI queues would be done.
  if (alone.some(({ command, code }) => command === 'MULTI' && code)) return refused;
  const all = [...others(name), ...(isCluster ? ofClusters : [])];
  const queued = await answersOf(server, [['MULTI'], ...all, ['DISCARD']]);
  // ERR: it knows no such command.
  return refused.concat(
    queued.filter(({ code }) => code === 'NOPERM' || code === 'ERR').map(({ command }) => command),
  );
}

/** Every command that is asked for, of any server. */
export const commandsSent = (): string[] =>
  [...transaction(''), ...others(''), ['DISCARD'] as const].map(nameOf);

const nameOf = ([name, subcommand]: Command): string => (name === 'SCRIPT' ? `${name} ${subcommand}` : name);

/** Sent in one go, so that nobody else's commands come between. */
function answersOf(
  server: Redis,
  commands: readonly Command[],
): Promise<{ command: string; code: string | undefined }[]> {
  return Promise.all(
    commands.map(async (sent) => {
      const [name, ...args] = sent;
      const command = nameOf(sent);
      try {
        await server.call(name, args);
        return { command, code: undefined };
      } catch (error) {
        const code = replyCode(error);
        if (code === undefined) throw error;
        return { command, code };
      }
    }),
  );
}
