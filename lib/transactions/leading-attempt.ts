import type { Command } from 'ioredis';
import { AtomicRedisError } from '../atomic-redis.errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { isConnectionLoss, isTransientRefusal, toReplyError } from '../connection/reply-errors.js';
import { ARMED, CommitMarker } from './commit-marker.js';
import type { Lease } from './lease.js';
import { lifetimeOf, type Lifetime } from './deadline-key.js';
import { handled, handledAfter } from './handled.js';
import { TransactionAttempt, type AttemptScope } from './transaction-attempt.js';
import type { Opening, TransactionConnection } from './transaction-connection.js';

/** An attempt on a connection of its own: it watches its keys there, and reads. */
export class LeadingAttempt extends TransactionAttempt implements Opening {
  /**
   * Settles when Redis has answered the WATCH; undefined once it has. MULTI is never written
   * before: a WATCH that arrives late could start on a marker that a resolver has touched already,
   * and EXEC would commit.
   */
  watching: Promise<unknown> | undefined;
  /**
   * The reason why the attempt cannot be committed although the work may continue: its connection
   * was lost, a node refused, or WATCH was answered too late.
   */
  failure: AtomicRedisError | undefined;
  /**
   * True if WATCH was answered too late: the deadline key may outlive the deadline, or may not have
   * lived when it was watched.
   */
  isLate = false;
  /** Why no EXEC can be written: Redis refused a key of the library's own. */
  refusal: Error | undefined;
  /** The lifetime of the deadline key; known once WATCH is answered. */
  lifetime: Lifetime | undefined;
  /** The commands that it has sent to Redis, beside the WATCH it began with. */
  readonly asked: { readonly name: string; readonly args: readonly unknown[] }[] = [];
  private readonly lent: TransactionConnection;
  private readonly setsDeadline: boolean;
  /** Number of the setting of the deadline key that this attempt made. */
  private set = 0;
  /** Monotonic time at which the attempt was written. */
  private sentAt: number;
  private ttlMs = 0;

  constructor(
    override readonly lease: Lease,
    connection: RedisConnection,
    scope: AttemptScope,
    attempt: number,
    /** The part of the deadline that is kept for the reply, in milliseconds. */
    private readonly graceMs: number,
    now: number,
  ) {
    super(connection, scope, attempt, lease);
    const { keys, slot, timeoutMs, deadline, participants } = scope;
    const lent = (this.lent = lease.connection);
    const { marker, deadlineKey } = lent;
    this.sentAt = now;
    this.lifetime = deadlineKey.reusableIn(slot, deadline.at, graceMs, now);
    this.setsDeadline = this.lifetime === undefined;
    const setting = lent.open(this, this.setsDeadline ? this.setDeadline() : undefined);
    if (setting) {
      this.set = deadlineKey.setting(slot);
      setting.catch((error: Error) => this.refused(error));
    }
    if (!marker.isArmed(slot, timeoutMs)) this.arm(marker);
    const ownKeys = [marker.keyIn(slot), deadlineKey.keyIn(slot)];
    const watch = connection.observer.roundTrip('WATCH', () =>
      this.send(
        'watch',
        participants.length > 0
          ? [...keys, ...participants.flatMap((participant) => participant.keys), ...ownKeys]
          : [...keys, ...ownKeys],
      ),
    );
    this.awaitBeforeExec(
      watch.then(
        () => this.onWatched(),
        (error: unknown) => this.fail(error, 'WATCH'),
      ),
    );
    for (const participant of participants) {
      const verified = participant.verify(lent.client, deadlineKey.keyIn(slot)).then((isEntitled) => {
        if (isEntitled !== false) return;
        // It may be the key that is gone, and not the lease that is short.
        deadlineKey.forget(slot);
        throw (this.failure ??= connection.unavailable(new Error('a lease ends before the transaction may')));
      });
      this.awaitBeforeExec(this.settle(verified, 'the check of the lease'));
    }
  }

  written(now: number): Command | undefined {
    const isAsMade = now - this.sentAt < 1;
    this.sentAt = now;
    return this.setsDeadline && !isAsMade ? this.setDeadline() : undefined;
  }

  protected override ask(name: string, args: readonly unknown[]): Promise<unknown> {
    // It would be in vain.
    if (this.failure) return handledAfter(handled(Promise.reject(this.failure)));
    this.asked.push({ name, args });
    const reply = name.endsWith('Buffer')
      ? this.send(name.slice(0, -'Buffer'.length), args, null)
      : this.send(name, args);
    return handledAfter(this.settle(reply, `tx.read.${name}`));
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

  /**
   * The command that sets the deadline key: it expires where an EXEC could not be answered in time
   * any more.
   */
  private setDeadline(): Command {
    const { slot, deadline } = this.scope;
    this.ttlMs = Math.max(1, Math.floor(deadline.at - this.sentAt - this.graceMs));
    return this.lent.command('set', [this.lent.deadlineKey.keyIn(slot), '', 'PX', this.ttlMs]);
  }

  private onWatched(): void {
    const { slot, deadline } = this.scope;
    const now = performance.now();
    this.lent.server.roundTrips.note(now - this.sentAt);
    if (this.refusal) return;
    if (this.setsDeadline) {
      this.lifetime = lifetimeOf(this.sentAt, now, this.ttlMs);
      this.lent.deadlineKey.confirm(slot, this.set, this.lifetime);
    }
    const { livesUntil, endsBy } = this.lifetime!;
    if (endsBy <= deadline.at && now < livesUntil) return;
    this.isLate = true;
    this.failure ??= this.connection.unavailable(new Error('WATCH was answered too late'));
  }

  private awaitBeforeExec(step: Promise<unknown>): void {
    const both = this.watching ? Promise.all([this.watching, step]) : step;
    this.watching = both;
    const answered = (): void => {
      if (this.watching === both) this.watching = undefined;
    };
    both.then(answered, () => undefined);
  }

  /**
   * Sees to it that the marker exists when it is watched and does not expire before the deadline:
   * absent, it is no evidence.
   */
  private arm(marker: CommitMarker): void {
    const { slot, timeoutMs } = this.scope;
    const ttlMs = CommitMarker.ttlMs(timeoutMs);
    const sentAt = performance.now();
    this.send('set', [marker.keyIn(slot), ARMED, 'PX', ttlMs]).then(
      () => marker.confirm(slot, sentAt, ttlMs),
      (error: Error) => this.refused(error),
    );
  }

  /**
   * Keeps the refusal of one of the library's own keys, as when memory is full: it matters only
   * once an EXEC is due.
   */
  private refused(error: Error): void {
    this.refusal ??= error;
  }

  /**
   * Turns an error of the connection or a passing refusal into one that starts the attempt again;
   * any other is the caller's.
   */
  private settle<T>(reply: Promise<T>, what: string): Promise<T> {
    const settled: Promise<T> = reply.catch((error: unknown) => {
      // A work need not wait for what it has asked.
      void handled(settled);
      return this.fail(error, what);
    });
    return settled;
  }

  private fail(error: unknown, what: string): never {
    // The participant's own, or nothing that Redis said.
    if (error instanceof AtomicRedisError || !(error instanceof Error)) throw error;
    if (!isConnectionLoss(error) && !isTransientRefusal(error)) throw toReplyError(error, what);
    throw (this.failure ??= this.connection.unavailable(error));
  }
}
