import { AtomicRedisError } from '../atomic-redis.errors.js';
import type { RedisConnection } from '../redis/redis-connection.js';
import { isConnectionLoss, isTransientRefusal, toReplyError } from '../redis/reply-errors.js';
import { ARMED, CommitMarker } from './commit-marker.js';
import { TransactionAttempt, type AttemptScope } from './transaction-attempt.js';
import type { TransactionConnection } from './transaction-connection.js';

/** An attempt on a connection of its own: it watches its keys there, and reads. */
export class LeadingAttempt extends TransactionAttempt {
  /**
   * Settles when Redis has answered the WATCH; undefined once it has. MULTI is never written before: a WATCH that arrives late could start on a marker that a
   * resolver has touched already, and EXEC would commit.
   */
  watching: Promise<unknown> | undefined;
  /** Why the attempt cannot be committed although the work may go on: its connection was lost, or a node refused. */
  failure: AtomicRedisError | undefined;
  /** What it has asked of Redis, beside the WATCH it began with. */
  readonly asked: { readonly name: string; readonly args: readonly unknown[] }[] = [];

  constructor(
    private readonly lent: TransactionConnection,
    connection: RedisConnection,
    scope: AttemptScope,
    attempt: number,
  ) {
    super(connection, scope, attempt);
    const { keys, slot, timeoutMs, participant } = scope;
    const { marker } = lent;
    if (!marker.isArmed(slot, timeoutMs)) this.awaitBeforeExec(this.arm(marker));
    const watchedKeys = participant ? [...keys, participant.key] : keys;
    const watch = connection.observer.roundTrip('WATCH', () =>
      this.send('watch', [...watchedKeys, marker.keyIn(slot)]),
    );
    this.awaitBeforeExec(this.settle(watch, 'WATCH'));
    if (participant) {
      const verified = participant.verify(lent.client);
      this.awaitBeforeExec(this.settle(verified, 'the check of the run'));
    }
  }

  protected override ask(name: string, args: readonly unknown[]): Promise<unknown> {
    this.asked.push({ name, args });
    const reply = name.endsWith('Buffer')
      ? this.send(name.slice(0, -'Buffer'.length), args, null)
      : this.send(name, args);
    return this.settle(reply, `tx.read.${name}`);
  }

  protected override async protect(keys: readonly string[]): Promise<void> {
    this.asked.push({ name: 'watch', args: keys });
    const watched = this.settle(this.send('watch', keys), 'WATCH');
    this.awaitBeforeExec(watched);
    await watched;
  }

  private send(name: string, args: readonly unknown[], replyEncoding?: null): Promise<unknown> {
    return this.lent.send(this.lent.command(name, args, replyEncoding));
  }

  private awaitBeforeExec(step: Promise<unknown>): void {
    const both = this.watching ? Promise.all([this.watching, step]) : step;
    this.watching = both;
    const answered = (): void => {
      if (this.watching === both) this.watching = undefined;
    };
    both.then(answered, () => undefined);
  }

  /** Sees to it that the marker exists when it is watched and does not expire before the deadline: absent, it is no evidence. */
  private async arm(marker: CommitMarker): Promise<void> {
    const { slot, timeoutMs } = this.scope;
    const ttlMs = CommitMarker.ttlMs(timeoutMs);
    const sentAt = performance.now();
    const armed = this.send('set', [marker.keyIn(slot), ARMED, 'PX', ttlMs]);
    await this.settle(armed, 'the commit marker');
    marker.confirm(slot, sentAt, ttlMs);
  }

  /** Turns an error of the connection or a passing refusal into one that starts the attempt again; any other is the caller's. */
  private settle<T>(reply: Promise<T>, what: string): Promise<T> {
    return reply.catch((error: unknown) => {
      // The participant's own, or nothing that Redis said.
      if (error instanceof AtomicRedisError || !(error instanceof Error)) throw error;
      if (!isConnectionLoss(error) && !isTransientRefusal(error)) throw toReplyError(error, what);
      throw (this.failure ??= this.connection.unavailable(error));
    });
  }
}
