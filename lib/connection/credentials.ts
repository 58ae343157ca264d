import type { Redis } from 'ioredis';
import { describe, InvalidArgumentError } from '../atomic-redis.errors.js';
import type { Check } from '../atomic-redis.validation.js';
import { sleep } from '../runtime/deadline.js';
import { planRenewal } from './renewals.js';

/** A password that ends by itself, such as a token of AWS IAM or Microsoft Entra. @inline */
export interface TemporaryPassword {
  password: string;
  /**
   * The time at which it ends: a Date, or milliseconds since 1970. Connections are replaced before.
   */
  expiresAt: Date | number;
}

/** A user name, or a function that returns the present one. @inline */
export type UsernameSource = string | (() => string | Promise<string>);

/** A password, or a function that returns the present one. @inline */
export type PasswordSource =
  string | (() => string | TemporaryPassword | Promise<string | TemporaryPassword>);

/** The credentials that a connection signs in with. */
interface SignIn {
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** Milliseconds since 1970. */
  readonly expiresAt: number | undefined;
}

/**
 * The least time between two calls of the functions, in milliseconds, however many connections are
 * opened.
 */
const ASK_EVERY_MS = 1_000;

/** A function that takes longer has failed. In milliseconds. */
const ASK_TIMEOUT_MS = 5_000;

/**
 * A failed function is called again after this long, in milliseconds, by the connection that all
 * calls wait for.
 */
const ASK_AGAIN_MS = 500;

/** An `expiresAt` below this, in 1973, was given in seconds. */
const LEAST_TIME_MS = 1e11;

/** Text or a function. The value is never shown: it may be a password. */
export const checkSource: Check = (path, value) => {
  if (typeof value !== 'string' && typeof value !== 'function')
    throw new InvalidArgumentError(path, 'a string, or a function that returns one', value);
};

/**
 * Provides user name and password, as functions return them, to every connection that is opened.
 */
export class Credentials {
  /** The last answer of the functions. */
  known: SignIn | undefined;
  private asking: Promise<SignIn> | undefined;
  private askedAt = -Infinity;
  private isRefused = false;

  private constructor(
    private readonly username: UsernameSource | undefined,
    private readonly password: PasswordSource | undefined,
  ) {}

  /** Undefined if neither is given beside `connection`. */
  static of(username?: UsernameSource, password?: PasswordSource): Credentials | undefined {
    return username === undefined && password === undefined ? undefined : new Credentials(username, password);
  }

  /**
   * Returns the present credentials. Concurrent callers share one call of the functions. Rejects if
   * a function fails or takes too long.
   */
  current(): Promise<SignIn> {
    if (this.known && performance.now() - this.askedAt < ASK_EVERY_MS) return Promise.resolve(this.known);
    this.asking ??= this.ask().finally(() => (this.asking = undefined));
    return this.asking;
  }

  /**
   * Notes that the server refused them.
   * @returns true if the functions are called once more, which may return others
   */
  refused(): boolean {
    const isFirst =
      !this.isRefused && (typeof this.username === 'function' || typeof this.password === 'function');
    this.isRefused = true;
    if (isFirst) this.askedAt = -Infinity;
    return isFirst;
  }

  accepted(): void {
    this.isRefused = false;
  }

  private async ask(): Promise<SignIn> {
    this.askedAt = performance.now();
    const [username, password] = await Promise.all([
      answerOf('username', this.username),
      answerOf('password', this.password),
    ]);
    const temporary = typeof password === 'object' ? (password as TemporaryPassword | null) : undefined;
    const text: unknown = temporary === undefined ? password : temporary?.password;
    if (username !== undefined && typeof username !== 'string') throw notText('username', username);
    if (text !== undefined && typeof text !== 'string') throw notText('password', text);
    const expiresAt = temporary ? Number(temporary.expiresAt) : undefined;
    if (expiresAt !== undefined && !Number.isFinite(expiresAt))
      throw new Error('the function forRoot.password returned an invalid expiresAt');
    if (expiresAt !== undefined && expiresAt < LEAST_TIME_MS)
      throw new Error(
        `the function forRoot.password returned an expiresAt of ${expiresAt}, which is long past: milliseconds since 1970 are needed, or a Date`,
      );
    this.known = { username, password: text, expiresAt };
    return this.known;
  }
}

/** Makes an error that never shows the value. */
const notText = (name: string, value: unknown): Error =>
  new Error(
    `the function forRoot.${name} must return a string, and returned ${value === null ? 'null' : typeof value}`,
  );

async function answerOf(name: string, source: UsernameSource | PasswordSource | undefined): Promise<unknown> {
  if (typeof source !== 'function') return source;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`the function forRoot.${name} returned nothing within ${ASK_TIMEOUT_MS} ms`)),
      ASK_TIMEOUT_MS,
    );
  });
  try {
    return await Promise.race([Promise.resolve().then(source), late]);
  } catch (cause) {
    if (cause instanceof Error && cause.message.startsWith('the function forRoot.')) throw cause;
    throw new Error(
      `the function forRoot.${name} failed: ${cause instanceof Error ? cause.message : describe(cause)}`,
      {
        cause,
      },
    );
  } finally {
    clearTimeout(timer);
  }
}

const used = new WeakMap<Redis, Credentials>();

/** Returns the credentials that a client uses, for clients that are made from it. */
export const credentialsOf = (client: Redis): Credentials | undefined => used.get(client);

/**
 * The parts of ioredis that sign in: it reads the credentials before its connector runs, and sends
 * `condition.auth` after it.
 */
interface SigningIn {
  connector: {
    connect(emit: (event: string, error?: Error) => void): Promise<unknown>;
    disconnect(): void;
  };
  condition: { auth?: string | [string, string] | undefined } | null;
}

/** Makes a client ask for its credentials each time that it connects. */
export function useCredentials(
  client: Redis,
  credentials: Credentials,
  { persists }: { persists: boolean },
): void {
  used.set(client, credentials);
  const parts = client as unknown as SigningIn;
  const { connector } = parts;
  const connect = connector.connect.bind(connector);
  const disconnect = connector.disconnect.bind(connector);
  let isClosed = false;
  connector.connect = async (emit) => {
    isClosed = false;
    // A connector that rejects would end the client for good.
    for (;;) {
      try {
        const { username, password = '', expiresAt } = adopt(client, await credentials.current());
        planRenewal(client, expiresAt);
        if (parts.condition) parts.condition.auth = username ? [username, password] : password || undefined;
        break;
      } catch (error) {
        if (!persists || isClosed) throw error;
        emit('error', error as Error);
        await sleep(ASK_AGAIN_MS);
      }
    }
    if (isClosed) throw new Error('Connection is closed.');
    return await connect(emit);
  };
  connector.disconnect = () => {
    isClosed = true;
    disconnect();
  };
}

/** Puts the credentials where clients that ioredis makes from this one find them. */
export function adopt(client: Redis, signIn: SignIn): SignIn {
  const { username = client.options.username ?? undefined, password, expiresAt } = signIn;
  if (username !== undefined) client.options.username = username;
  if (password !== undefined) client.options.password = password;
  return { username, password: password ?? client.options.password ?? undefined, expiresAt };
}
