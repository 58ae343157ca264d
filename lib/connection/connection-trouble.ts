import type { Redis } from 'ioredis';
import { isClusterClient, type RedisClient } from './client.js';
import { isCredentialRefusal, OutOfOrderError, refusedCredentials } from './connection-check.js';
import type { Credentials } from './credentials.js';
import { isCutOff, refusalAtTheDoor } from './door-refusal.js';
import { reasonOf, refusalIn, withoutSecrets } from './error-texts.js';

/**
 * After this long without an error, an attempt to connect is reported as unanswered. In
 * milliseconds.
 */
const UNANSWERED_MS = 300;

/** Keeps the reason for a missing connection: that of the attempt under way, or of the last one. */
export class ConnectionTrouble {
  private attempt = { startedAt: 0, hasFailed: false, isOver: false };
  private lastError: Error | undefined;
  private lastErrorAt = -Infinity;
  /** The last refusal that a server sent before it read anything. */
  private doorRefusal: Error | undefined;

  constructor(
    private readonly client: RedisClient,
    private readonly credentials: Credentials | undefined,
    private readonly isReady: () => boolean,
  ) {}

  attemptBegins(): void {
    this.attempt = { startedAt: performance.now(), hasFailed: false, isOver: false };
  }

  /**
   * Notes that the attempt failed with an 'error' of the client.
   * @returns true for the first error of an attempt; later ones are its consequences
   */
  failed(error: Error): boolean {
    withoutSecrets(error);
    if (this.attempt.hasFailed) return false;
    this.found(this.lasting(refusalIn(error)) ?? error);
    if (!isClusterClient(this.client) && isCutOff(error)) void this.hearWhy(this.client, this.attempt);
    return true;
  }

  /**
   * Notes that the connection was closed. If it was not yet in order, and ended without an error,
   * the server's refusal may have been lost.
   */
  closed(): void {
    const { hasFailed, isOver } = this.attempt;
    if (!hasFailed && !isOver && !isClusterClient(this.client)) void this.hearWhy(this.client, this.attempt);
  }

  /** Notes that the attempt reached a server that cannot be used. */
  found(error: Error): void {
    this.attempt.hasFailed = true;
    this.left(error);
  }

  /**
   * Notes that the connection was given up for this reason. The next attempt may find another
   * server.
   */
  left(reason: Error): void {
    this.lastError = reason;
    this.lastErrorAt = performance.now();
  }

  /** Notes that the attempt led to a connection that is in order. */
  ended(): void {
    this.attempt.isOver = true;
    this.lastError = undefined;
  }

  get reason(): Error {
    const { startedAt, hasFailed } = this.attempt;
    const { status } = this.client;
    const isUnderWay = status === 'connecting' || status === 'connect' || status === 'ready';
    const isUnanswered = !hasFailed && performance.now() - startedAt > UNANSWERED_MS;
    if (isUnderWay && (isUnanswered || !this.lastError) && !this.isReady()) {
      const tls = isClusterClient(this.client) ? undefined : this.client.options.tls;
      if (status !== 'connecting') return new Error('it accepted the connection, and does not answer');
      return new Error(
        tls
          ? 'it does not answer the TLS handshake (does this port speak TLS?)'
          : 'it does not answer the attempt to connect',
      );
    }
    return this.lastError ?? new Error('it does not answer');
  }

  /**
   * Returns the reason for a call that has waited since a point on the scale of
   * `performance.now()`. A reason from before is reported as such.
   */
  reasonSince(since: number): Error {
    const { reason } = this;
    if (reason !== this.lastError || this.lastErrorAt >= since) return reason;
    return new Error(
      `no attempt to connect has ended since the call began; the last one before ended with: ${reasonOf(reason)}`,
      { cause: reason },
    );
  }

  private async hearWhy(client: Redis, attempt: object): Promise<void> {
    const refusal = await refusalAtTheDoor(client);
    const { lastError } = this;
    const isAtTheDoor = lastError !== undefined && lastError === this.doorRefusal;
    // The next attempt may have failed in the same way meanwhile.
    const isOfNow = this.attempt === attempt || !lastError || isCutOff(lastError) || isAtTheDoor;
    if (!isOfNow || this.isReady()) return;
    // Closed again without a message, so for the same reason as before.
    const reason = refusal ?? (isAtTheDoor ? lastError : undefined);
    if (!reason) return;
    this.doorRefusal = reason;
    this.left(reason);
  }

  /** Returns the error by which Redis says that the configuration is wrong. */
  private lasting(refusal: Error): OutOfOrderError | undefined {
    if (isCredentialRefusal(refusal)) {
      // The next attempt asks for other credentials.
      return this.credentials?.refused() ? undefined : refusedCredentials(refusal);
    }
    if (isClusterClient(this.client) && /cluster support disabled/i.test(refusal.message))
      return new OutOfOrderError(
        'database',
        `${refusal.message}: pass its URL or { host, port } instead of { nodes }`,
        { cause: refusal },
      );
    return undefined;
  }
}
