import type { Redis } from 'ioredis';
import { isConnectionLoss, replyCode } from './reply-errors.js';
import { parseServerInfo, type ParsedInfo, type ServerRole } from './server-info.js';

/** Facts about the server that a connection has reached, found while the connection was checked. */
export interface ConnectionFacts {
  /** Undefined if the user has no right to any command that tells it. */
  readonly role: ServerRole | undefined;
  /** Undefined if INFO is missing or forbidden. */
  readonly info: ParsedInfo | undefined;
  /** The server's refusal of INFO, if it refused it. */
  readonly infoRefusal: Error | undefined;
}

type Disorder = 'busy' | 'credentials' | 'database' | 'replica' | 'transaction';

/** Refusals of every question. They say nothing about the connection. */
const NOT_NOW = new Set(['BUSY', 'LOADING']);

/**
 * Redis accepted a connection, but it must not be used: it leads to the wrong server or database,
 * or is in the wrong state.
 */
export class OutOfOrderError extends Error {
  constructor(
    readonly disorder: Disorder,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = 'OutOfOrderError';
  }

  /** True if connecting again would find the same, so that only another configuration helps. */
  get isLasting(): boolean {
    return this.disorder === 'credentials' || this.disorder === 'database';
  }
}

/**
 * The one place that judges a connection. A connection is in order if it is signed in, on its
 * database, at a master and outside any MULTI.
 *
 * The questions leave in one write, and change nothing on the connection. If INFO is refused, one
 * more round trip asks ROLE. If that is refused too, it sends a write that does nothing: SET with
 * XX of a key that does not exist. A replica answers READONLY.
 *
 * @param absentKey a name that no key has
 * @throws OutOfOrderError if it must not be used, and the error with which the connection fails
 */
export async function checkConnection(client: Redis, absentKey: string): Promise<ConnectionFacts> {
  const db = databaseOf(client);
  // ioredis has sent the same, and ignores a refusal.
  const [selected, answer] = await Promise.all([
    db === 0 ? undefined : answerTo(client.select(db)),
    answerTo(client.info()),
  ]);
  checkDatabase(db, selected);
  if (typeof answer === 'string') {
    assertNotQueued(answer);
    const info = parseServerInfo(answer);
    if (info.isLoading) throw new OutOfOrderError('busy', 'LOADING: the server is loading its data');
    const role = info.role ?? (await roleWithoutInfo(client, absentKey));
    assertMaster(role, info.masterAddress);
    return { role, info, infoRefusal: undefined };
  }
  if (replyCode(answer) === 'NOAUTH') throw refusedCredentials(answer);
  const role = await roleWithoutInfo(client, absentKey);
  assertMaster(role);
  return { role, info: undefined, infoRefusal: answer };
}

/**
 * Asks for the role again, on a connection that is in order.
 * @throws OutOfOrderError if it is a replica now, and the error with which the connection fails
 */
export async function checkRole(client: Redis, facts: ConnectionFacts, absentKey: string): Promise<void> {
  const answer = facts.info?.role ? await answerTo(client.info('replication')) : undefined;
  const info = typeof answer === 'string' ? parseServerInfo(answer) : undefined;
  assertMaster(info?.role ?? (await roleWithoutInfo(client, absentKey)), info?.masterAddress);
}

/** Returns the database that a connection works on. */
export const databaseOf = (client: Redis): number => client.condition?.select ?? client.options.db ?? 0;

/** Credentials that the server refused. */
export const refusedCredentials = (cause: Error): OutOfOrderError =>
  new OutOfOrderError('credentials', `it refused the user name or password: ${cause.message}`, { cause });

/** Returns true if the server refused the credentials of a connection. */
export const isCredentialRefusal = (error: unknown): boolean =>
  ['WRONGPASS', 'NOAUTH'].includes(replyCode(error) ?? '');

/**
 * Resolves with the answer, or with the server's refusal. Rejects if the connection fails, or the
 * server refuses every question now.
 */
function answerTo(reply: Promise<string>): Promise<string | Error> {
  return reply.catch((error: Error) => {
    assertAnswers(error);
    return error;
  });
}

/**
 * @throws the error itself if the connection failed; OutOfOrderError if the server refuses every
 * question now
 */
function assertAnswers(error: Error): void {
  if (isConnectionLoss(error)) throw error;
  if (NOT_NOW.has(replyCode(error) ?? '')) throw new OutOfOrderError('busy', error.message, { cause: error });
}

function checkDatabase(db: number, answer: string | Error | undefined): void {
  if (typeof answer === 'string') return assertNotQueued(answer);
  if (!answer) return;
  if (replyCode(answer) === 'NOAUTH') throw refusedCredentials(answer);
  throw new OutOfOrderError(
    'database',
    `it does not let this user work on database ${db}, and commands would go to database 0: SELECT ${db} was refused (${answer.message})`,
    { cause: answer },
  );
}

/** Finds a MULTI that was left open: inside it, every command is answered with QUEUED. */
function assertNotQueued(answer: string): void {
  if (answer === 'QUEUED')
    throw new OutOfOrderError('transaction', 'the connection is inside a MULTI that it did not begin');
}

function assertMaster(role: ServerRole | undefined, master?: string): void {
  if (role !== 'replica') return;
  throw new OutOfOrderError(
    'replica',
    `it is a replica${master ? ` of ${master}` : ''}, and this library writes: connect to the master`,
  );
}

async function roleWithoutInfo(client: Redis, absentKey: string): Promise<ServerRole | undefined> {
  try {
    const [role] = (await client.call('ROLE')) as [unknown];
    if (role === 'master') return 'master';
    if (role === 'slave') return 'replica';
  } catch (error) {
    assertAnswers(error as Error);
  }
  const answer = await answerTo(client.set(absentKey, '', 'XX') as Promise<string>);
  const code = answer instanceof Error ? replyCode(answer) : undefined;
  if (code === 'READONLY') return 'replica';
  // These refusals say nothing about the role: no right to write, or no such command.
  return code === 'NOPERM' || code === 'ERR' ? undefined : 'master';
}
