import { replyCode } from './reply-errors.js';

interface NestedError extends Error {
  /** Set on `AggregateError`: one error for each address of a name. */
  errors?: readonly Error[];
  /** Set on ioredis's `ClusterAllFailedError`. */
  lastNodeError?: Error;
  /** Set on a reply: the command that it answers. */
  command?: { name?: string; args?: unknown };
}

/** The first byte of a TLS server's answer to plain text. */
const TLS_ALERT = String.fromCharCode(0x15);

/**
 * Returns the innermost reason as text. Some errors of Node.js and ioredis have it only in the
 * errors they hold.
 */
export function reasonOf(error: NestedError): string {
  if (error.lastNodeError) return `${error.message} Last error: ${reasonOf(error.lastNodeError)}`;
  const text = error.message || (error.errors ?? []).map(reasonOf).join(', ') || error.name;
  if (/wrong version number|EPROTO/.test(text))
    return `${text} (TLS was asked for, and the port does not speak it)`;
  if (text.includes(`got "\\u0015"`) || text.includes(`got "${TLS_ALERT}"`))
    return `${text} (the port speaks TLS, which was not asked for)`;
  return text;
}

/**
 * Returns an error as it may be shown: ioredis leaves the credentials of a refused HELLO or AUTH in
 * `command`.
 */
export function withoutSecrets<E extends NestedError>(error: E): E {
  if (error.lastNodeError) withoutSecrets(error.lastNodeError);
  const name = error.command?.name?.toLowerCase();
  if (name === 'hello' || name === 'auth') error.command = { name };
  return error;
}

/** Returns the refusal of a node behind an error of a Cluster client, or the error itself. */
export const refusalIn = (error: NestedError): Error =>
  error.lastNodeError && replyCode(error.lastNodeError) !== undefined ? error.lastNodeError : error;
