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
} from './client.js';
import { Deadline, sleep } from '../runtime/deadline.js';
import { isFromReplica } from './reply-errors.js';
import { Admission } from './admission.js';
import { ChangeSignal } from './change-signal.js';
import { OutOfOrderError, type ConnectionFacts } from './connection-check.js';
import { ConnectionTrouble } from './connection-trouble.js';
import { adopt, type Credentials } from './credentials.js';
import { reasonOf } from './error-texts.js';
import { reconnectNode } from './renewals.js';
import { prepareSignIn } from './sign-in.js';

/** Closing waits this long for a connection's last replies, in milliseconds. */
const QUIT_TIMEOUT_MS = 500;

export interface SharedConnectionSettings {
  connection: ConnectionOption;
  connectionName: string;
  /** The credentials that are given beside `connection`. */
  credentials: Credentials | undefined;
  /** Returns a name that no key has; another one each time. */
  absentKey: () => string;
}

export interface SharedConnectionListener {
  /**
   * Called when a connection is in order. Waiting calls continue afterwards. `isNew`: it was opened
   * since the last time.
   */
  admitted(facts: ConnectionFacts, isNew: boolean): void;
  /**
   * Called when the connection is left, since another server is the master, or the address will
   * lead to another.
   */
  leaving(reason: Error): void;
}

/**
 * The connection that commands and scripts share. It reconnects until it is closed, and is ready
 * only once it is in order. A Cluster client is ready when it knows its slots; its nodes are
 * checked one by one.
 */
export class SharedConnection {
  readonly client: RedisClient;
  readonly isCluster: boolean;
  /** Asks the user's own `reconnectOnError`. */
  readonly givenReconnectOnError: (answer: Error) => boolean;
  /** The facts at the time when the connection was last in order. */
  facts: ConnectionFacts | undefined;
  /** The stream that ioredis closes because of an answer. */
  private ending: unknown;
  /** The number of attempts to connect since a connection was in order. */
  private failures = 0;
  private state: 'idle' | 'open' | 'closed' = 'idle';
  private readonly change = new ChangeSignal();
  private readonly trouble: ConnectionTrouble;
  private readonly admission: Admission;

  constructor(
    private readonly settings: SharedConnectionSettings,
    private readonly listener: SharedConnectionListener,
  ) {
    const { connection, connectionName, credentials, absentKey } = settings;
    this.givenReconnectOnError = givenReconnectOnError(connection);
    this.client = openSharedClient(connection, {
      connectionName,
      retryDelayMs: () => {
        // Nodes of a Cluster use the known credentials when they connect again.
        if (this.isCluster) credentials?.current().catch(() => undefined);
        return reconnectDelayMs(++this.failures);
      },
      mustReconnect: (answer) => this.mustReconnect(answer),
    });
    this.isCluster = isClusterClient(this.client);
    this.trouble = new ConnectionTrouble(this.client, credentials, () => this.isReady);
    this.admission = new Admission(this.client, absentKey, {
      admitted: (facts, isNew) => this.admitted(facts, isNew),
      refused: (error) => {
        this.trouble.found(error);
        this.change.changed();
      },
    });
    prepareSignIn(this.client, credentials);
    this.client.on('error', (error: Error) => {
      if (this.trouble.failed(error)) this.change.changed();
    });
    this.client.on('connecting', () => this.trouble.attemptBegins());
    this.client.on('close', () => this.trouble.closed());
    this.client.on('ready', () => {
      const { client, admission } = this;
      void (isClusterClient(client) ? admission.checkNodes(client) : admission.check());
    });
  }

  /** True if a command written in this tick goes to a live connection that is in order. */
  get isReady(): boolean {
    return this.state === 'open' && this.admission.isGiven;
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
    // A Cluster client sends its first question on a connection that it makes for itself.
    while (this.isCluster && settings.credentials && !settings.credentials.known && !this.isClosed) {
      const failure = await settings.credentials.current().then(
        () => undefined,
        (error: Error) => error,
      );
      if (!failure) break;
      this.trouble.left(failure);
      this.change.changed();
      await sleep(500);
    }
    // Failures arrive as 'error'; the client keeps trying.
    if (!this.isClosed) this.client.connect().catch(() => undefined);
  }

  /**
   * @throws RedisUnavailableError when no connection is in order by the deadline; ModuleClosedError
   * after {@link close}
   */
  async ready(deadline: Deadline, since = performance.now()): Promise<void> {
    this.open();
    while (!this.isReady) {
      if (this.isClosed) throw this.closedError();
      if (deadline.passed) throw this.unavailableSince(since);
      void this.admission.check();
      await this.change.next(deadline);
    }
  }

  /**
   * Does the same for an application that starts. It does not wait if only another configuration
   * would help.
   * @throws ConfigurationError besides, when Redis was reached and the connection is not in order
   */
  async firstReady(deadline: Deadline): Promise<void> {
    const since = performance.now();
    this.open();
    while (!this.isReady && !this.isClosed) {
      const { reason } = this.trouble;
      const isWrong = reason instanceof OutOfOrderError && reason.disorder !== 'busy';
      if (isWrong && (reason.isLasting || deadline.passed))
        throw new ConfigurationError(`Redis at ${this.address} cannot be used: ${reason.message}`, {
          cause: reason,
        });
      if (deadline.passed) break;
      await this.change.next(deadline);
    }
    await this.ready(deadline, since);
  }

  /** Asks once more whether the connection is in order, before the next call depends on it. */
  distrust(): void {
    if (!this.isCluster) this.admission.revoke();
  }

  /**
   * Gives the connection up for another one to the server that has the address now. Commands that
   * were written are still answered if possible.
   */
  leave(reason: Error): void {
    if (this.isCluster || this.state !== 'open' || !this.admission.revoke()) return;
    this.trouble.left(reason);
    this.listener.leaving(reason);
    this.client.disconnect(true);
  }

  /** Replaces the connection, or the one to a node of a Cluster, before its password ends. */
  renew(server: Redis): void {
    if (this.state !== 'open' || server.status !== 'ready') return;
    if (!this.isCluster) {
      this.admission.revoke();
      this.client.disconnect(true);
      return;
    }
    this.renewNode(server).catch(() => undefined);
  }

  private async renewNode(node: Redis): Promise<void> {
    // Called before the node is left, so that a function that fails costs no connection.
    const signIn = await this.settings.credentials?.current();
    if (!signIn) return;
    // ioredis asks for the slots on copies of any node.
    for (const one of (this.client as Cluster).nodes()) adopt(one, signIn);
    reconnectNode(node);
  }

  /** Ends the connection at once, and all calls that wait for a reply on it. */
  destroy(reason: Error): void {
    this.admission.revoke();
    this.trouble.left(reason);
    (this.client as Redis).stream.destroy(reason);
  }

  /** Closes it. Waiting callers get a ModuleClosedError. */
  async close(): Promise<void> {
    const wasOpen = this.state === 'open';
    this.state = 'closed';
    this.change.changed();
    if (!wasOpen) return;
    // Commands written before are still answered, if the server answers at all.
    if (this.client.status === 'ready') {
      const quit = this.client.quit().then(() => undefined);
      await Deadline.in(QUIT_TIMEOUT_MS)
        .race(quit, () => this.unavailable())
        .catch(() => undefined);
    }
    this.client.disconnect();
  }

  unavailable(cause: Error = this.trouble.reason): RedisUnavailableError {
    return new RedisUnavailableError(
      `Redis at ${this.address} could not be reached in time: ${reasonOf(cause)}`,
      { cause },
    );
  }

  /**
   * Makes the error of a call that has waited since a point on the scale of `performance.now()`.
   */
  unavailableSince(since: number): RedisUnavailableError {
    return this.unavailable(this.trouble.reasonSince(since));
  }

  closedError(): ModuleClosedError {
    return new ModuleClosedError('AtomicRedisModule was closed');
  }

  private mustReconnect(answer: Error): boolean {
    const isWrongServer = isFromReplica(answer);
    const must = isWrongServer || this.givenReconnectOnError(answer);
    if (!must || this.isCluster) return must;
    // ioredis would close it again for each answer, and add a listener each time.
    const { stream } = this.client as Redis;
    if (stream === this.ending) return false;
    this.ending = stream;
    if (this.admission.revoke()) {
      this.trouble.left(answer);
      this.listener.leaving(answer);
    }
    return must;
  }

  private admitted(facts: ConnectionFacts | undefined, isNew: boolean): void {
    this.failures = 0;
    this.settings.credentials?.accepted();
    this.trouble.ended();
    if (facts) {
      this.facts = facts;
      this.listener.admitted(facts, isNew);
    }
    this.change.changed();
  }
}
