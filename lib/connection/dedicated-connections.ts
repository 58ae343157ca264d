import type { Redis } from 'ioredis';
import { RedisUnavailableError } from '../atomic-redis.errors.js';
import { markLeaving, openDedicatedClient } from './client.js';
import { sleep, type Deadline } from '../runtime/deadline.js';
import { checkConnection, isCredentialRefusal, OutOfOrderError } from './connection-check.js';
import { credentialsOf } from './credentials.js';
import { isCutOff, refusalAtTheDoor } from './door-refusal.js';
import { isIdle, pendingOf } from './pending-commands.js';

/**
 * For this long after a loss, in milliseconds, connections are opened a few at a time: a server
 * that has just come up meets all clients of all processes.
 */
const AFTER_LOSS_MS = 5_000;
const AT_A_TIME_AFTER_LOSS = 2;
const JITTER_MS = 10;

export interface DedicatedConnectionsSettings {
  /** Stands in front of the purpose in CLIENT LIST. */
  readonly connectionName: string;
  readonly keyPrefix: string;
  readonly absentKey: (near: Redis) => string;
  /**
   * Returns true if an answer makes the connection useless. `isCurrent`: it was opened since the
   * server was last left.
   */
  readonly mustReconnect: (answer: Error, isCurrent: boolean) => boolean;
  /** Called when a new connection has reached a replica. */
  readonly foundReplica: () => void;
  readonly unavailable: (cause: Error) => RedisUnavailableError;
}

/** The time for replies that a server still owes when it is left, in milliseconds. */
const ANSWERS_MS = 250;

/**
 * Opens connections with one owner each. All are checked when they are opened, and never reconnect.
 */
export class DedicatedConnections {
  /** Each with the number of times that a server had been left when it was opened. */
  private readonly connections = new Map<Redis, number>();
  private timesLeft = 0;
  private lostAt = -Infinity;
  private opening = 0;
  private readonly line: (() => void)[] = [];

  constructor(private readonly settings: DedicatedConnectionsSettings) {}

  all(): Iterable<Redis> {
    return this.connections.keys();
  }

  /**
   * @throws RedisUnavailableError when the server cannot be reached by the deadline, or the
   * connection is not in order
   */
  async open(near: Redis, purpose: string, deadline: Deadline): Promise<Redis> {
    await this.turn(deadline);
    try {
      return await this.openOne(near, purpose, deadline);
    } catch (error) {
      const isRefused = error instanceof RedisUnavailableError && isCredentialRefusal(error.cause);
      if (!isRefused || !credentialsOf(near)?.refused()) throw error;
      // Tries once more, with other credentials.
      return await this.openOne(near, purpose, deadline);
    } finally {
      this.opening--;
      this.line.shift()?.();
    }
  }

  private async openOne(near: Redis, purpose: string, deadline: Deadline): Promise<Redis> {
    const client = this.create(near, purpose);
    let cause: Error | undefined;
    client.on('error', (error: Error) => (cause ??= error));
    const silent = (): Error =>
      this.settings.unavailable(cause ?? new Error('there is no answer on a new connection'));
    try {
      await deadline.race(this.connect(client), silent);
      credentialsOf(near)?.accepted();
      return client;
    } catch (error) {
      client.disconnect();
      if (error instanceof OutOfOrderError && error.disorder === 'replica') this.settings.foundReplica();
      if (error instanceof RedisUnavailableError) throw error;
      if (error instanceof OutOfOrderError) throw this.settings.unavailable(error);
      const reason = cause ?? (error as Error);
      throw this.settings.unavailable((isCutOff(reason) && (await refusalAtTheDoor(near))) || reason);
    }
  }

  /**
   * Notes that the shared connection was lost or left: from now on connections are opened a few at
   * a time.
   */
  lost(): void {
    this.lostAt = performance.now();
  }

  /**
   * Closes every connection, since another server has the address, or will have. A connection that
   * owes replies gets a moment for them. Otherwise the outcome of an EXEC would have to be resolved
   * while there is no master yet.
   */
  leaveServer(): void {
    this.timesLeft++;
    for (const client of this.connections.keys()) {
      if (pendingOf(client).length === 0) client.disconnect();
      else {
        markLeaving(client);
        setTimeout(() => client.disconnect(), ANSWERS_MS).unref();
      }
    }
  }

  /** Closes the connections on which no call waits for a reply. */
  dropIdle(except: Redis): void {
    for (const client of this.connections.keys())
      if (client !== except && isIdle(client)) client.disconnect();
  }

  private create(near: Redis, purpose: string): Redis {
    const { connectionName, keyPrefix, mustReconnect } = this.settings;
    const { timesLeft } = this;
    const client = openDedicatedClient(near, `${connectionName}:${purpose}`, keyPrefix, (_, answer) =>
      mustReconnect(answer, timesLeft === this.timesLeft),
    );
    this.connections.set(client, timesLeft);
    client.once('end', () => this.connections.delete(client));
    return client;
  }

  private async connect(client: Redis): Promise<void> {
    await client.connect();
    await checkConnection(client, this.settings.absentKey(client));
  }

  /** Waits for its turn while connections are opened a few at a time. */
  private async turn(deadline: Deadline): Promise<void> {
    const isAfterLoss = (): boolean => performance.now() - this.lostAt < AFTER_LOSS_MS;
    if (isAfterLoss()) await sleep(Math.min(Math.random() * JITTER_MS, deadline.remainingMs));
    while (isAfterLoss() && this.opening >= AT_A_TIME_AFTER_LOSS && !deadline.passed)
      await this.next(deadline);
    this.opening++;
  }

  /** Resolves when another connection was opened, or at the deadline. */
  private async next(deadline: Deadline): Promise<void> {
    let wake = (): void => undefined;
    const woken = new Promise<void>((resolve) => this.line.push((wake = resolve)));
    await deadline.race(woken, () => new Error('not in time')).catch(() => undefined);
    const at = this.line.indexOf(wake);
    if (at >= 0) this.line.splice(at, 1);
  }
}
