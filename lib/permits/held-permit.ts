import type { Redis } from 'ioredis';
import { LeaseLostError, ModuleClosedError, RedisUnavailableError } from '../atomic-redis.errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { CommitHold } from '../leases/commit-hold.js';
import { lookMsOf, type LeaseKeeper, type PausableLease } from '../leases/lease-keeper.js';
import { ENFORCEMENT, PERMIT_COLOCATION, type Enforcement, type Permit } from '../leases/permit.js';
import { errorName, type Observer } from '../observability/observer.js';
import type { OperationRunner } from '../operations/operation-runner.js';
import type { Deadline } from '../runtime/deadline.js';
import { LazyAbort } from '../runtime/lazy-abort.js';
import type { CommitParticipant, QueuedCommand } from '../scripting/commit-participant.js';
import * as operation from './permit.operations.js';
import type { Claim } from './permit.operations.js';
import { MAX_ROW, type Row } from './row.js';
import type { WaitingRooms } from './waiting-rooms.js';

/** The parts of its service that a permit needs. */
export interface PermitAccess {
  readonly connection: RedisConnection;
  readonly operations: OperationRunner;
  readonly observer: Observer;
  readonly keeper: LeaseKeeper<HeldPermit>;
  readonly rooms: WaitingRooms;
}

/**
 * Transactions side by side under one permit each need it to last a little longer: this much spare
 * keeps them from prolonging it in turn, which aborts each other.
 */
const SPARE = 1.5;

/** The time by which the trace of a release outlives the call, in milliseconds. */
const TRACE_MARGIN_MS = 60_000;
/** While there is one, the name takes one round trip: also for what runs a few times an hour. */
const TRACE_MS = 3_600_000;

/** No slot holds it. */
const RELEASED = 'released';

const NONE: readonly string[] = [];

/** Returns the time for which a release leaves a trace, in milliseconds. */
export const keptMsOf = (timeoutMs: number): number => Math.max(TRACE_MS, timeoutMs + TRACE_MARGIN_MS);

/** A permit as its holder has it. */
export class HeldPermit implements Permit, PausableLease, Enforcement {
  readonly leaseMs: number;
  readonly lookMs: number;
  readonly slot: number;
  readonly fence: number;
  endsAt: number;
  index = -1;
  pauses = 0;
  renewing: Promise<void> | undefined;
  renewals = 0;
  /** True once the lease was lost, or the module closed. */
  isLost = false;
  /** True if its release must find out whether it was lost, and so goes to Redis. */
  tellsLoss = false;
  private readonly abort = new LazyAbort();
  private releasing: Promise<boolean> | undefined;
  /** True once a release may have arrived whose answer did not. */
  private mayBeReleased = false;
  /** True once anything may have been sent that Redis makes only while the permit is held. */
  private isEnforced = false;
  /** The value that the slot holds while this permit is held. */
  private heldAs: string;

  /**
   * @param askedAt monotonic time at which it was asked for: the lease began no earlier
   * @param row that it has the permit in
   */
  constructor(
    private readonly access: PermitAccess,
    private readonly claim: Claim,
    private readonly timeoutMs: number,
    { slot, fence, leaseMs }: { readonly slot: number; readonly fence: number; readonly leaseMs: number },
    askedAt: number,
    private readonly row?: Row,
  ) {
    this.slot = slot;
    this.fence = fence;
    this.leaseMs = leaseMs;
    this.heldAs = row ? row.token : claim.token;
    this.lookMs = lookMsOf(leaseMs);
    this.endsAt = askedAt + leaseMs;
  }

  get name(): string {
    return this.claim.name;
  }

  get signal(): AbortSignal {
    return this.abort.signal;
  }

  get isPaused(): boolean {
    return this.pauses > 0;
  }

  get connection(): RedisConnection {
    return this.access.connection;
  }

  get key(): string {
    return this.claim.keys.slots[this.slot]!;
  }

  get token(): string {
    return this.heldAs;
  }

  get [ENFORCEMENT](): Enforcement {
    this.isEnforced = true;
    return this;
  }

  participant(): CommitParticipant {
    return new PermitCommit(this, this.access.keeper);
  }

  release(): Promise<boolean> {
    return (this.releasing ??= this.giveBack());
  }

  /** Does what a release does; for one that has no caller. */
  async giveAway(): Promise<boolean> {
    return this.passOn() || (await this.handOn());
  }

  /** Aborts the signal of a permit that is still held. */
  stop(reason: unknown): void {
    this.abort.abort(reason);
  }

  lost(reason: Error): void {
    this.isLost = true;
    // A module that closes loses nothing: the lease is left to itself.
    if (!(reason instanceof ModuleClosedError))
      this.access.observer.occurred({
        type: 'lease.lost',
        pattern: 'permits',
        name: '',
        error: errorName(reason),
      });
    this.abort.abort(reason);
  }

  private async giveBack(): Promise<boolean> {
    const { keeper, observer } = this.access;
    keeper.letGo(this);
    try {
      return await observer.operation('permits.release', () => this.giveAway(), { changed: Boolean });
    } catch (error) {
      // Not told: it may be called again.
      this.releasing = undefined;
      if (!(error instanceof RedisUnavailableError)) this.mayBeReleased = true;
      throw error;
    }
  }

  /**
   * Gives it to the next of its row, without Redis. What Redis enforces may still be under way and
   * would find the same token, so it does not where there was any. A renewal may be, too: it could
   * cut short what the next has prolonged. Nor does it where the lease ends so soon that the next
   * could not renew it.
   */
  private passOn(): boolean {
    const { row, leaseMs, endsAt } = this;
    if (!row || this.isEnforced || this.tellsLoss || this.isLost || this.mayBeReleased) return false;
    if (this.renewals > 0) return false;
    if (endsAt - performance.now() < leaseMs / 2) return false;
    const token = row.next();
    if (token === undefined) return false;
    const { line } = this.claim.keys;
    if (!this.access.rooms.handOver(line, { token, row }, endsAt - leaseMs)) {
      // It is served in its turn by Redis, and so are those behind it.
      row.end();
      return false;
    }
    this.heldAs = RELEASED;
    return true;
  }

  private async handOn(): Promise<boolean> {
    const { operations, rooms } = this.access;
    const { claim, row, slot, timeoutMs, mayBeReleased: isRepeated } = this;
    const askedAt = performance.now();
    const options = { timeoutMs, propagation: 'outside' } as const;
    const call = {
      claim,
      token: this.heldAs,
      slot,
      fence: row ? row.lastFence : this.fence,
      left: row ? row.left : NONE,
      // With several permits, another release could serve those in the row.
      maxRow: claim.keys.slots.length === 1 && !this.isEnforced ? MAX_ROW : 0,
      isRepeated,
      keptMs: keptMsOf(timeoutMs),
    };
    const { isReleased, heir } = await operations.part(operation.release, call, options);
    if (heir) rooms.handOver(claim.keys.line, heir, askedAt);
    // The keeper has let it go, and cannot find that out any more.
    if (!isReleased && !this.isLost) this.lost(new LeaseLostError());
    return isReleased;
  }
}

/**
 * Lets a transaction apply its writes only while the permit is held: the holder's own key is
 * watched.
 */
class PermitCommit implements CommitParticipant {
  readonly commits = 'permit';
  readonly colocation = PERMIT_COLOCATION;
  private readonly hold: CommitHold<HeldPermit>;

  constructor(
    private readonly permit: HeldPermit,
    keeper: LeaseKeeper<HeldPermit>,
  ) {
    this.hold = new CommitHold(permit.connection, keeper, permit, SPARE);
  }

  get connection(): RedisConnection {
    return this.permit.connection;
  }

  get keys(): readonly string[] {
    return [this.permit.key];
  }

  begin(deadline: Deadline): Promise<void> {
    return this.hold.begin(deadline);
  }

  async verify(client: Redis): Promise<void> {
    const { key, token } = this.permit;
    if ((await client.get(key)) !== token) throw new LeaseLostError('not-applied');
  }

  writes(): readonly QueuedCommand[] {
    return [];
  }

  end(): { touched: boolean } {
    return this.hold.end();
  }
}
