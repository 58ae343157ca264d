import { AtomicRedisError, RedisReplyError } from '../atomic-redis.errors.js';

/** Replies that mean: nothing was done now, but may be later, or by another node. */
const TRANSIENT = new Set([
  'LOADING',
  'READONLY',
  'CLUSTERDOWN',
  'TRYAGAIN',
  'MASTERDOWN',
  'MOVED',
  'ASK',
  'NOREPLICAS',
  'BUSY',
  // The reply to a blocking command whose master becomes a replica.
  'UNBLOCKED',
]);

/**
 * The beginning of ioredis's error for a command that every node refused; the last refusal follows.
 */
const REDIRECTED = /^Too many Cluster redirections\. Last error: ReplyError: ([A-Z]+)/;

/**
 * The beginning of Dragonfly's error from within a script: `ERR Error running script (call to
 * <sha>): @user_script:39: -WRONGTYPE …`. A batch of scripts uses it too.
 */
const FROM_WITHIN = 'ERR Error running script ';

/** The code in such an error. A word of the user's own text is not a code. */
const CODE_WITHIN = /^ERR Error running script \(call to \w+\): (?:@?\w+: ?\d+: )*-([A-Z][A-Z0-9]*)\b/;

/** Dragonfly's text for full memory has no code, from within a script or not. */
const OUT_OF_MEMORY = /^ERR (?:Error running script .*: )?Out of memory$/s;

/**
 * Returns the first word of an error reply, without the text that some servers put around it;
 * undefined for an error of the client or of the network.
 */
export function replyCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error.name !== 'ReplyError') return REDIRECTED.exec(error.message)?.[1];
  const code = /^[A-Z][A-Z0-9]*/.exec(error.message)?.[0] ?? 'ERR';
  return code === 'ERR' ? codeWithin(error.message) : code;
}

const codeWithin = (message: string): string =>
  OUT_OF_MEMORY.test(message) ? 'OOM' : (CODE_WITHIN.exec(message)?.[1] ?? 'ERR');

/**
 * Returns true if the server says that it refused a command within a script. Commands before it may
 * have run. Redis and Valkey do not say so.
 */
const isFromWithin = (error: unknown): boolean =>
  error instanceof Error && error.message.startsWith(FROM_WITHIN);

/**
 * Returns true if the server does not know the script, so that nothing of it ran. Only the start of
 * the text counts: the error of a script that has written may contain the word.
 */
export const isUnknownScript = (error: unknown): boolean =>
  replyCode(error) === 'NOSCRIPT' && !isFromWithin(error);

/** Refusals that meet every write of a script alike, so that no earlier write was done. */
const OF_EVERY_WRITE = new Set(['READONLY', 'NOREPLICAS']);

/** Returns true if Redis refused a command before doing any of it, for a reason that passes. */
export function isTransientRefusal(error: unknown): boolean {
  const code = replyCode(error) ?? '';
  return TRANSIENT.has(code) && (OF_EVERY_WRITE.has(code) || !isFromWithin(error));
}

/**
 * Returns true if the server is a replica, or has become one, so that another one is the master
 * now.
 */
export function isFromReplica(error: unknown): boolean {
  const code = replyCode(error);
  return (
    code === 'READONLY' ||
    code === 'UNBLOCKED' ||
    (code === 'EXECABORT' && replyCode(discardReason(error as Error)) === 'READONLY')
  );
}

/**
 * Matches a server's objection to EXEC itself, such as a role or a memory limit that changed after
 * the commands were queued.
 */
const DISCARDED_FOR = /^EXECABORT Transaction discarded because of: ([A-Z][A-Z0-9]* .*)/s;

/**
 * Returns the refusal inside an EXECABORT; undefined if that only points at the commands before.
 */
function discardReason({ message }: Error): Error | undefined {
  const reason = DISCARDED_FOR.exec(message)?.[1];
  return reason === undefined ? undefined : Object.assign(new Error(reason), { name: 'ReplyError' });
}

/**
 * Returns true if the error came from the connection, not from the server: commands that were sent
 * may or may not have run.
 */
export const isConnectionLoss = (error: unknown): boolean =>
  error instanceof Error && !(error instanceof AtomicRedisError) && replyCode(error) === undefined;

/**
 * Errors by which Redis refuses a script or command before it runs. Any other may come from within
 * a script that has written.
 */
const REFUSED_BEFOREHAND = new Set([
  ...TRANSIENT,
  'OOM',
  'NOPERM',
  'NOAUTH',
  'MISCONF',
  'EXECABORT',
  'CROSSSLOT',
]);

/** Returns true if Redis refused the command before doing any of it. */
export function isRefusedBeforehand(error: unknown): boolean {
  const code = replyCode(error) ?? '';
  return REFUSED_BEFOREHAND.has(code) && (OF_EVERY_WRITE.has(code) || !isFromWithin(error));
}

/** The server's own wordings. A script's own error that only begins alike proves nothing. */
const UNREAD =
  /^ERR Protocol error: (invalid (multi)?bulk length|too big (bulk|mbulk) count string|expected '\$')/;

/**
 * Returns true if the server could not read the command, because its arguments are too large or too
 * many. It then closes the connection.
 */
export const isUnread = (error: unknown): boolean =>
  replyCode(error) === 'ERR' && UNREAD.test((error as Error).message);

/**
 * Refusals that pass once Redis has memory or disk again. That takes time, so the caller must
 * repeat the call.
 */
const PASSES_LATER = new Set(['OOM', 'MISCONF']);

const mayBeRepeated = (code: string): boolean => TRANSIENT.has(code) || PASSES_LATER.has(code);

/**
 * Makes the error of a script. Unless Redis refused to run it at all, it may have written before it
 * failed.
 */
export function toScriptError(error: Error, script: { name: string; readOnly: boolean }): RedisReplyError {
  const code = replyCode(error) ?? 'ERR';
  const isNotApplied = script.readOnly || isRefusedBeforehand(error) || isUnread(error);
  return new RedisReplyError(code, `Redis refused ${script.name}: ${error.message}`, {
    cause: error,
    retryable: isNotApplied && mayBeRepeated(code),
    outcome: isNotApplied ? 'not-applied' : 'unknown',
  });
}

/**
 * Makes an error of the library from the server's refusal of a command.
 * @param cause given if more than the refusal is known
 */
export function toReplyError(error: Error, what: string, cause: Error = error): RedisReplyError {
  const code = replyCode(error) ?? 'ERR';
  return new RedisReplyError(code, `Redis refused ${what}: ${error.message}`, {
    cause,
    retryable: mayBeRepeated(code),
  });
}

/**
 * Returns the reason why Redis refused a MULTI or one of its commands, so that none was applied:
 * the first reason that does not pass. Undefined if all of them may be gone the next time.
 */
export function finalRefusal(error: Error & { previousErrors?: Error[] }): Error | undefined {
  return refusalsOf(error).find((refusal) => !isTransientRefusal(refusal));
}

/** Returns the refusals at queue time, or the objection to EXEC itself; else the error. */
export function refusalsOf(error: Error & { previousErrors?: Error[] }): readonly [Error, ...Error[]] {
  if (replyCode(error) !== 'EXECABORT') return [error];
  const [first, ...others] = error.previousErrors ?? [];
  return first ? [first, ...others] : [discardReason(error) ?? error];
}

/** Answers a read of a key of another type with null: such a key holds nothing of the library's. */
export function nullIfWrongType(error: unknown): null {
  if (replyCode(error) === 'WRONGTYPE') return null;
  throw error;
}
