import type { Redis } from 'ioredis';
import { replyCode } from './reply-errors.js';

type Command = readonly [name: string, ...args: string[]];

/** The commands of transactions, in an order in which they do nothing. */
const transaction = (key: string): Command[] => [
  ['DISCARD'],
  ['EXEC'],
  ['WATCH', key],
  ['UNWATCH'],
  ['MULTI'],
  ['DISCARD'],
];

/**
 * Every other command that the library sends, alone or within its scripts: each once, with as few
 * arguments as it may have.
 */
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
  ['MGET', key],
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
  ['HGETALL', key],
  ['HMGET', key, ''],
  ['HLEN', key],
  ['HSET', key, '', ''],
  ['HDEL', key, ''],
  ['LINDEX', key, '0'],
  ['LLEN', key],
  ['LRANGE', key, '0', '0'],
  ['LMOVE', key, key, 'LEFT', 'LEFT'],
  ['BLMOVE', key, key, 'LEFT', 'LEFT', '0.01'],
  ['BZPOPMIN', key, '0.01'],
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
  ['ZRANK', key, ''],
  ['ZREM', key, ''],
  ['ZREMRANGEBYRANK', key, '0', '0'],
  ['ZREMRANGEBYSCORE', key, '0', '0'],
  ['ZSCORE', key, ''],
];

/** A command that ioredis adds on a Cluster, to follow a key whose slot is moving. */
const ofClusters: readonly Command[] = [['ASKING']];

/**
 * Commands that would change something, or fail for other reasons, if they ran on a key that does
 * not exist.
 */
const NEVER_DONE = new Set(['HSET', 'LPUSH', 'RPUSH', 'RENAME', 'COPY']);

/**
 * Finds the commands that the server does not know, or that the user may not use on the key and
 * channel of that name.
 *
 * Each command is queued in a MULTI of its own, where Redis judges it, and dropped by the DISCARD
 * behind it. So no command runs, also on a server that runs commands behind a refused one. If
 * DISCARD or MULTI is refused, or a service refuses a command only inside a MULTI, the command runs
 * alone if that changes nothing. Refusals for other reasons, such as too little memory or another
 * owner of the slot, are left out.
 *
 * @param scratch a connection that serves nothing else, and is closed afterwards
 * @param name of no existing key
 */
export async function refusedCommands(scratch: Redis, name: string, isCluster: boolean): Promise<string[]> {
  const asked = await answersOf(scratch, transaction(name));
  const refused = new Set(
    asked.filter(({ refusal }) => refusal && !/without MULTI/i.test(refusal.message)).map(commandNameOf),
  );
  const all = [...others(name), ...(isCluster ? ofClusters : [])];
  const canQueue = !refused.has('MULTI') && !refused.has('DISCARD');
  const queued = canQueue ? await answersWithinMulti(scratch, all) : [];
  const undecided = canQueue
    ? queued.filter(({ refusal }) => refusal && !isMissing(refusal)).map(({ command }) => command)
    : all;
  const done = await answersOf(
    scratch,
    undecided.filter(([command]) => !NEVER_DONE.has(command)),
  );
  for (const answer of [...queued.filter(({ refusal }) => refusal && isMissing(refusal)), ...done])
    if (answer.refusal) refused.add(commandNameOf(answer));
  return [...refused];
}

/** The names of all commands that any server is asked for. */
export const commandsSent = (): string[] => [
  ...new Set([...transaction(''), ...others('')].map((command) => commandNameOf({ command }))),
];

interface CommandReply {
  readonly command: Command;
  /** Set only for refusals that concern the command or the user. */
  readonly refusal: Error | undefined;
}

function commandNameOf({ command: [name, subcommand] }: { command: Command }): string {
  return name === 'SCRIPT' ? `${name} ${subcommand}` : name;
}

const isMissing = (refusal: Error): boolean =>
  replyCode(refusal) === 'NOPERM' || /unknown (sub)?command/i.test(refusal.message);

async function answersWithinMulti(scratch: Redis, commands: readonly Command[]): Promise<CommandReply[]> {
  const answers = await answersOf(
    scratch,
    commands.flatMap((command): Command[] => [['MULTI'], command, ['DISCARD']]),
  );
  return answers.filter((_, i) => i % 3 === 1);
}

/** Sends the commands in one write. */
async function answersOf(scratch: Redis, commands: readonly Command[]): Promise<CommandReply[]> {
  const { stream } = scratch;
  stream.cork();
  const answers = commands.map((command) => answerOf(scratch, command));
  stream.uncork();
  return await Promise.all(answers);
}

async function answerOf(scratch: Redis, command: Command): Promise<CommandReply> {
  const [name, ...args] = command;
  try {
    await scratch.call(name, args);
    return { command, refusal: undefined };
  } catch (error) {
    const code = replyCode(error);
    if (code === undefined) throw error;
    // ERR: no such command, or one that is not allowed here. EXECABORT: a user without the right to
    // EXEC.
    return { command, refusal: ['NOPERM', 'ERR', 'EXECABORT'].includes(code) ? (error as Error) : undefined };
  }
}
