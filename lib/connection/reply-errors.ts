import { AtomicRedisError, RedisReplyError } from '../atomic-redis.errors.js';

/** Answers by which Redis says it did nothing now but may later, or that another node should be asked. */
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
  // A blocking command, when its master becomes a replica.
  'UNBLOCKED',
]);

/** What ioredis says of a command that each node it asked has refused; the last refusal follows. */
const REDIRECTED = /^Too many Cluster redirections\. Last error: ReplyError: ([A-Z]+)/;

/** How Dragonfly begins an error from within a script: `ERR Error running script (call to <sha>): @user_script:39: -WRONGTYPE …`; a script's batch does as well. */
const FROM_WITHIN = 'ERR Error running script ';

/** The code in such an error. A word of the user's own is no code. */
const CODE_WITHIN = /^ERR Error running script \(call to \w+\): (?:@?\w+: ?\d+: )*-([A-Z][A-Z0-9]*)\b/;

/** Dragonfly's word for it has no code, from within a script or not. */
const OUT_OF_MEMORY = /^ERR (?:Error running script .*: )?Out of memory$/s;

/** The first word of an error that Redis answered with, without what a server puts around it; undefined for an error of the client or of the network. */
export function replyCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error.name !== 'ReplyError') return REDIRECTED.exec(error.message)?.[1];
  const code = /^[A-Z][A-Z0-9]*/.exec(error.message)?.[0] ?? 'ERR';
  return code === 'ERR' ? codeWithin(error.message) : code;
}

const codeWithin = (message: string): string =>
  OUT_OF_MEMORY.test(message) ? 'OOM' : (CODE_WITHIN.exec(message)?.[1] ?? 'ERR');

/** Tells whether a server says that it refused a command within a script; commands before it may have been done. Redis and Valkey do not say so. */
const isFromWithin = (error: unknown): boolean =>
  error instanceof Error && error.message.startsWith(FROM_WITHIN);

/**
 * Whether the server does not know the script, so that nothing of it ran. Only the start of the text counts: a script's own
 * error may contain the word after it has written.
 */
export const isUnknownScript = (error: unknown): boolean =>
  replyCode(error) === 'NOSCRIPT' && !isFromWithin(error);

/** Refusals that meet every write of a script alike, so that none before was done. */
const OF_EVERY_WRITE = new Set(['READONLY', 'NOREPLICAS']);

/** Whether Redis refused a command before doing any of it, for a reason that passes. */
export function isTransientRefusal(error: unknown): boolean {
  const code = replyCode(error) ?? '';
  return TRANSIENT.has(code) && (OF_EVERY_WRITE.has(code) || !isFromWithin(error));
}

/** Whether the server is a replica, or has become one: another one is the master now. */
export function isFromReplica(error: unknown): boolean {
  const code = replyCode(error);
  return (
    code === 'READONLY' ||
    code === 'UNBLOCKED' ||
    (code === 'EXECABORT' && replyCode(discardReason(error as Error)) === 'READONLY')
  );
}

/** The server's words of what it has against an EXEC itself, such as a role or a memory limit that changed behind the commands. */
const DISCARDED_FOR = /^EXECABORT Transaction discarded because of: ([A-Z][A-Z0-9]* .*)/s;

/** The refusal inside of an EXECABORT; undefined where that only points at the commands before. */
function discardReason({ message }: Error): Error | undefined {
  const reason = DISCARDED_FOR.exec(message)?.[1];
  return reason === undefined ? undefined : Object.assign(new Error(reason), { name: 'ReplyError' });
}

/** Whether the error came from the connection, not from the server: what was sent may or may not have been done. */
export const isConnectionLoss = (error: unknown): boolean =>
  error instanceof Error && !(error instanceof AtomicRedisError) && replyCode(error) === undefined;

/** Errors by which Redis refuses a script or command before it runs; any other may come from within a script that has written. */
const REFUSED_BEFOREHAND = new Set([
  ...TRANSIENT,
  'OOM',
  'NOPERM',
  'NOAUTH',
  'MISCONF',
  'EXECABORT',
  'CROSSSLOT',
]);

/** Whether Redis refused the command before doing any of it. */
export function isRefusedBeforehand(error: unknown): boolean {
  const code = replyCode(error) ?? '';
  return REFUSED_BEFOREHAND.has(code) && (OF_EVERY_WRITE.has(code) || !isFromWithin(error));
}

/** Wordings of the server's own: an error of a script's own that merely begins alike says nothing. */
const UNREAD =
  /^ERR Protocol error: (invalid (multi)?bulk length|too big (bulk|mbulk) count string|expected '\$')/;

/** Whether the server could not even read the command: its arguments are larger or more than it takes. It then closes the connection. */
export const isUnread = (error: unknown): boolean =>
  replyCode(error) === 'ERR' && UNREAD.test((error as Error).message);

/** Refusals that pass once Redis has memory or disk again; not at once, so they are for the caller to repeat. */
const PASSES_LATER = new Set(['OOM', 'MISCONF']);

const mayBeRepeated = (code: string): boolean => TRANSIENT.has(code) || PASSES_LATER.has(code);

/** An error of a script: unless Redis refused to run it at all, it may have written before it failed. */
export function toScriptError(error: Error, script: { name: string; readOnly: boolean }): RedisReplyError {
  const code = replyCode(error) ?? 'ERR';
  const isNotApplied = script.readOnly || isRefusedBeforehand(error) || isUnread(error);
  return new RedisReplyError(code, `Redis refused ${script.name}: ${error.message}`, {
    cause: error,
    retryable: isNotApplied && mayBeRepeated(code),
    outcome: isNotApplied ? 'not-applied' : 'unknown',
  });
}

/** The server's refusal of a command as an error of ours; `cause` where more than the refusal itself is known. */
export function toReplyError(error: Error, what: string, cause: Error = error): RedisReplyError {
  const code = replyCode(error) ?? 'ERR';
  return new RedisReplyError(code, `Redis refused ${what}: ${error.message}`, {
    cause,
    retryable: mayBeRepeated(code),
  });
}

/**
 * Why Redis refused a MULTI or one of its commands, so that none was applied: the first reason that does not pass. Undefined when every one
 * of them may be gone the next time.
 */
export function finalRefusal(error: Error & { previousErrors?: Error[] }): Error | undefined {
  return refusalsOf(error).find((refusal) => !isTransientRefusal(refusal));
}

/** What was refused at queue time, or what Redis has against EXEC itself; else the error. */
export function refusalsOf(error: Error & { previousErrors?: Error[] }): readonly [Error, ...Error[]] {
  if (replyCode(error) !== 'EXECABORT') return [error];
  const [first, ...others] = error.previousErrors ?? [];
  return first ? [first, ...others] : [discardReason(error) ?? error];
}
