import type { Cluster, Redis } from 'ioredis';
import { ConfigurationError, ModuleClosedError, RedisUnavailableError } from '../atomic-redis.errors.js';
import {
  addressOf,
  givenReconnectOnError,
  isClusterClient,
  openSharedClient,
  reconnectDelayMs,
  type ConnectionOption,
  type RedisClient,
} from '../redis/client.js';
import { Deadline, sleep } from '../redis/deadline.js';
import { isFromReplica, replyCode } from '../redis/reply-errors.js';
import {
  checkConnection,
  isCredentialRefusal,
  OutOfOrderError,
  refusedCredentials,
  type ConnectionFacts,
} from './connection-check.js';
import { adopt, useCredentials, type Credentials } from './credentials.js';
import { isReset, refusalAtTheDoor } from './door-refusal.js';
import { reasonOf, refusalIn, withoutSecrets } from './error-texts.js';

/** Closing waits this long for a connection's last answers. */
const QUIT_TIMEOUT_MS = 500;

/** An attempt to connect without an error is told as unanswered after this long. */
const UNANSWERED_MS = 300;

/** No connection: differs from every stream. */
const NONE = Symbol('none');

/** ioredis knows that a server does not speak RESP3 by one wording of the refusal; services have their own. */
function refusesHello(error: Error & { command?: { name?: string } }): boolean {
  const isRefused = error.command?.name?.toLowerCase() === 'hello' && replyCode(error) === 'ERR';
  return isRefused && !error.message.includes('max number of clients');
}

function speakResp2(client: Redis): void {
  client.options.protocol = 2;
}

export interface SharedConnectionSettings {
  connection: ConnectionOption;
  connectionName: string;
  /** Given beside `connection`. */
  credentials: Credentials | undefined;
  /** A name that no key has; another one each time. */
  absentKey: () => string;
}

export interface SharedConnectionListener {
  /** A connection was found to be in order. Calls that wait for it go on afterwards. `isNew`: it was opened since the last time. */
  admitted(facts: ConnectionFacts, isNew: boolean): void;
  /** The connection is left, since another server is the master, or will be found there. */
  leaving(reason: Error): void;
}

/**
 * The connection that commands and scripts share. It reconnects until it is closed, and is ready only once it is in order; a Cluster client is ready when it
 * knows its slots, and its nodes are checked one by one.
 */
export class SharedConnection {
  readonly client: RedisClient;
  readonly isCluster: boolean;
  /** What `reconnectOnError` of the user's says. */
  readonly givenReconnectOnError: (answer: Error) => boolean;
  /** Found when the connection was last in order. */
  facts: ConnectionFacts | undefined;
  /** The stream of the connection that is in order. A Cluster client has none of its own. */
  private admitted: unknown = NONE;
  private lastAdmitted: unknown = NONE;
  private checking: unknown = NONE;
  /** That ioredis closes because of an answer. */
  private ending: unknown = NONE;
  /** Attempts to connect since one was in order. */
  private failures = 0;
  private attempt = { startedAt: 0, hasFailed: false };
  private lastError: Error | undefined;
  private state: 'idle' | 'open' | 'closed' = 'idle';
  private readonly waiting = new Set<() => void>();

  constructor(
    private readonly settings: SharedConnectionSettings,
    private readonly listener: SharedConnectionListener,
  ) {
    const { connection, connectionName } = settings;
    this.givenReconnectOnError = givenReconnectOnError(connection);
    this.client = openSharedClient(connection, {
      connectionName,
      retryDelayMs: () => {
        // Nodes of a Cluster find what is known when it connects again.
        if (this.isCluster) settings.credentials?.current().catch(() => undefined);
        return reconnectDelayMs(++this.failures);
      },
      mustReconnect: (answer) => this.mustReconnect(answer),
    });
    this.isCluster = isClusterClient(this.client);
    const { credentials } = settings;
    if (credentials && !isClusterClient(this.client))
      useCredentials(this.client, credentials, { persists: true });
    if (credentials && isClusterClient(this.client))
      this.client.on('+node', (node: Redis) => {
        if (credentials.known) adopt(node, credentials.known);
        useCredentials(node, credentials, { persists: false });
      });
    if (this.isCluster)
      this.client.on('+node', (node: Redis) => {
        node.on('error', (error: Error) => void (refusesHello(error) && speakResp2(node)));
      });
    this.client.on('error', (error: Error) => this.failed(error));
    this.client.on('connecting', () => (this.attempt = { startedAt: performance.now(), hasFailed: false }));
    this.client.on('ready', () => void (this.isCluster ? this.checkNodes() : this.check()));
  }

  /** Whether a command written in this tick goes to a live connection that is in order. */
  get isReady(): boolean {
    if (this.state !== 'open' || this.client.status !== 'ready') return false;
    const stream = (this.client as Redis).stream as Redis['stream'] | undefined;
    // A client goes on being 'ready' until its socket has closed, which may have ended before.
    return stream === this.admitted && (stream === undefined || stream.writable);
  }

  get isClosed(): boolean {
    return this.state === 'closed';
  }

  get address(): string {
    return addressOf(this.client);
  }

  /** Starts connecting, and keeps reconnecting until closed. */
  open(): void {
    if (this.state !== 'idle') return;
    this.state = 'open';
    void this.connect();
  }

  private async connect(): Promise<void> {
    const { settings } = this;
    // The first question of a Cluster client goes out by a connection that it makes for itself.
    while (this.isCluster && settings.credentials && !settings.credentials.known && !this.isClosed) {
      const failure = await settings.credentials.current().then(
        () => undefined,
        (error: Error) => error,
      );
      if (!failure) break;
      this.lastError = failure;
      this.wake();
      await sleep(500);
    }
    // Failures arrive as 'error'; the client goes on trying.
    if (!this.isClosed) this.client.connect().catch(() => undefined);
  }

  /** @throws RedisUnavailableError when no connection is in order by the deadline; ModuleClosedError after {@link close} */
  async ready(deadline: Deadline): Promise<void> {
    this.open();
    while (!this.isReady) {
      if (this.isClosed) throw this.closedError();
      if (deadline.passed) throw this.unavailable();
      void this.check();
      await this.untilChange(deadline);
    }
  }

  /**
   * The same for an application that starts: it need not wait for what only another configuration changes.
   * @throws ConfigurationError besides, when Redis was reached and the connection is not in order
   */
  async firstReady(deadline: Deadline): Promise<void> {
    this.open();
    while (!this.isReady && !this.isClosed) {
      const { trouble } = this;
      const isWrong = trouble instanceof OutOfOrderError && trouble.disorder !== 'loading';
      if (isWrong && (trouble.isLasting || deadline.passed))
        throw new ConfigurationError(`Redis at ${this.address} cannot be used: ${trouble.message}`, {
          cause: trouble,
        });
      if (deadline.passed) break;
      await this.untilChange(deadline);
    }
    await this.ready(deadline);
  }

  /** Asks once more whether the connection is in order, before the next call depends on it. */
  distrust(): void {
    if (!this.isCluster) this.admitted = NONE;
  }

  /** Gives the connection up for another one to the server that has the address now. What was written is still answered where that is possible. */
  leave(reason: Error): void {
    if (this.isCluster || this.state !== 'open' || this.admitted === NONE) return;
    this.admitted = NONE;
    this.lastError = reason;
    this.listener.leaving(reason);
    this.client.disconnect(true);
  }

  /** Replaces the connection without a reason to mistrust it, such as a password that will end. */
  renew(): void {
    if (this.isCluster || this.state !== 'open' || this.client.status !== 'ready') return;
    this.admitted = NONE;
    this.client.disconnect(true);
  }

  /** Ends the connection at once, and everything that waits for an answer on it. */
  destroy(reason: Error): void {
    this.admitted = NONE;
    this.lastError = reason;
    (this.client as Redis).stream.destroy(reason);
  }

  /** Closes it. Waiting callers get a ModuleClosedError. */
  async close(): Promise<void> {
    const wasOpen = this.state === 'open';
    this.state = 'closed';
    this.wake();
    if (!wasOpen) return;
    // What was written before is still answered, unless nothing is any more.
    if (this.client.status === 'ready') {
      const quit = this.client.quit().then(() => undefined);
      await Deadline.in(QUIT_TIMEOUT_MS)
        .race(quit, () => this.unavailable())
        .catch(() => undefined);
    }
    this.client.disconnect();
  }

  /** The reason why there is no connection now: of the attempt under way, or of the last one. */
  get trouble(): Error {
    const { startedAt, hasFailed } = this.attempt;
    const { status } = this.client;
    const isUnderWay = status === 'connecting' || status === 'connect' || status === 'ready';
    const isUnanswered = !hasFailed && performance.now() - startedAt > UNANSWERED_MS;
    if (isUnderWay && (isUnanswered || !this.lastError) && !this.isReady) {
      const tls = this.isCluster ? undefined : (this.client as Redis).options.tls;
      if (status !== 'connecting')
        return new Error('it accepted the connection, and there is no answer from it');
      return new Error(
        tls
          ? 'there is no answer to the TLS handshake (does this port speak TLS?)'
          : 'there is no answer to the attempt to connect',
      );
    }
    return this.lastError ?? new Error('there is no answer from it');
  }

  unavailable(cause: Error = this.trouble): RedisUnavailableError {
    return new RedisUnavailableError(
      `Redis at ${this.address} could not be reached in time: ${reasonOf(cause)}`,
      { cause },
    );
  }

  closedError(): ModuleClosedError {
    return new ModuleClosedError('AtomicRedisModule was closed');
  }

  private failed(error: Error): void {
    withoutSecrets(error);
    if (!this.isCluster && refusesHello(error)) speakResp2(this.client as Redis);
    const refusal = refusalIn(error);
    // Errors that follow are of its consequences.
    if (this.attempt.hasFailed) return;
    this.attempt.hasFailed = true;
    this.lastError = this.lasting(refusal) ?? error;
    if (!this.isCluster && isReset(error)) void this.hearWhy(this.attempt);
    this.wake();
  }

  private async hearWhy(attempt: object): Promise<void> {
    const refusal = await refusalAtTheDoor(this.client as Redis);
    // The next attempt may have failed meanwhile, in the same way.
    const isOfNow = this.attempt === attempt || (this.lastError !== undefined && isReset(this.lastError));
    if (refusal && isOfNow && !this.isReady) this.lastError = refusal;
  }

  /** An error by which Redis says that the configuration is wrong. */
  private lasting(refusal: Error): OutOfOrderError | undefined {
    if (isCredentialRefusal(refusal)) {
      // The next attempt asks for others.
      return this.settings.credentials?.refused() ? undefined : refusedCredentials(refusal);
    }
    if (this.isCluster && /cluster support disabled/i.test(refusal.message))
      return new OutOfOrderError(
        'database',
        `${refusal.message}: pass its URL or { host, port } instead of { nodes }`,
        { cause: refusal },
      );
    return undefined;
  }

  private mustReconnect(answer: Error): boolean {
    const isWrongServer = isFromReplica(answer);
    const must = isWrongServer || this.givenReconnectOnError(answer);
    if (!must || this.isCluster) return must;
    // For each answer again ioredis would close it, and add a listener.
    const { stream } = this.client as Redis;
    if (stream === this.ending) return false;
    this.ending = stream;
    if (this.admitted !== NONE) {
      this.admitted = NONE;
      this.lastError = answer;
      this.listener.leaving(answer);
    }
    return must;
  }

  private async check(): Promise<void> {
    const client = this.client as Redis;
    const { stream } = client;
    if (this.isCluster || client.status !== 'ready' || this.checking === stream) return;
    this.checking = stream;
    try {
      const facts = await checkConnection(client, this.settings.absentKey());
      if (client.stream === stream && client.status === 'ready') this.enter(stream, facts);
    } catch (error) {
      // A lost connection comes back by itself.
      if (!(error instanceof OutOfOrderError) || client.stream !== stream) return;
      this.attempt.hasFailed = true;
      this.lastError = error;
      client.disconnect(true);
      this.wake();
    } finally {
      if (this.checking === stream) this.checking = NONE;
    }
  }

  /** Nodes of a Cluster are checked before use only where they may have several databases: elsewhere each tells of itself by MOVED. */
  private async checkNodes(): Promise<void> {
    const client = this.client as Cluster;
    try {
      if (client.options.redisOptions?.db)
        await Promise.all(
          client.nodes('master').map((node) => checkConnection(node, this.settings.absentKey())),
        );
      this.enter(undefined, undefined);
    } catch (error) {
      if (!(error instanceof OutOfOrderError) || error.disorder !== 'database')
        return client.disconnect(true);
      this.attempt.hasFailed = true;
      this.lastError = error;
      this.wake();
    }
  }

  private enter(stream: unknown, facts: ConnectionFacts | undefined): void {
    this.failures = 0;
    this.settings.credentials?.accepted();
    this.lastError = undefined;
    this.admitted = stream;
    const isNew = this.lastAdmitted !== stream;
    this.lastAdmitted = stream;
    if (facts) {
      this.facts = facts;
      this.listener.admitted(facts, isNew);
    }
    this.wake();
  }

  private wake(): void {
    for (const wake of this.waiting) wake();
  }

  private untilChange(deadline: Deadline): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, deadline.remainingMs);
      this.waiting.add(done);
    });
  }
}
