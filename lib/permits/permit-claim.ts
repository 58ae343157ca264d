import { OutcomeUnknownError, RedisUnavailableError } from '../atomic-redis.errors.js';
import { whenAborted } from '../runtime/abort-listeners.js';
import { Deadline, sleep, untilAborted } from '../runtime/deadline.js';
import { assertOutsideTransaction, isInTransaction } from '../runtime/transaction-scope.js';
import { schedule, unschedule } from '../runtime/timer-queue.js';
import type { WorkInFlight } from '../runtime/work-in-flight.js';
import { lookForAny, lookForOne, stay, type Seen } from './acquire.operations.js';
import { HeldPermit, keptMsOf, type PermitAccess } from './held-permit.js';
import { PermitUnavailableError } from './permit.errors.js';
import { permitKeys } from './permit-keys.js';
import * as operation from './permit.operations.js';
import type { Claim } from './permit.operations.js';
import { takeFree } from './take-free.operation.js';
import type { Grant, WaitingRoom } from './waiting-rooms.js';
import { anySignal } from '../runtime/any-signal.js';

/** The terms of a claim. */
export interface ClaimTerms {
  readonly name: string;
  readonly limit: number;
  readonly leaseMs: number;
  readonly timeoutMs: number;
  readonly propagation: 'outside' | undefined;
}

/** The parts of its service that a claim needs. */
export interface ClaimAccess extends PermitAccess {
  readonly inFlight: WorkInFlight;
  /** Returns a token that is used for the first time. */
  readonly nextToken: () => string;
  /** Aborts when the module closes. */
  readonly closing: AbortSignal;
}

/**
 * The time for which one that waits trusts to be woken before it looks by itself, in milliseconds;
 * it is taken to be alive for three times as long.
 */
const LOOK_MS = 1_000;
/** Likewise, while it could not subscribe, or Redis could not be reached. */
const LOOK_UNSUBSCRIBED_MS = 100;
/** The time by which each of the first looks later than the one ahead when a lease ends, in ms. */
const APART_MS = 10;

/** Until an answer tells it. */
const UNKNOWN_TICKET = '-';

type Waiting = Extract<Seen, { kind: 'waiting' }>;
/** The result of one look: the permit, or none. */
type Look = HeldPermit | Exclude<Seen, { kind: 'granted' }>;

/** The way of one caller to a permit. */
export class PermitClaim {
  private readonly claim: Claim;
  private ticket = '';
  /** True while the caller may stand in line or have been given a permit. */
  private mayHold = false;
  /** True if messages arrived when the last look was sent. */
  private lookedSubscribed = false;
  /** A permit that a release in this process has handed over. */
  private grant: Grant | undefined;
  private wake = (): void => undefined;
  private room: WaitingRoom | undefined;
  /** True if a message arrived since the last look was sent. */
  private isTold = false;

  constructor(
    private readonly access: ClaimAccess,
    private readonly terms: ClaimTerms,
  ) {
    const { name, limit } = terms;
    const keys = permitKeys(access.connection.keys, name, limit);
    this.claim = { name, token: access.nextToken(), keys };
  }

  /**
   * Takes a permit, and waits for it up to `waitMs`.
   *
   * @throws PermitUnavailableError when others held all of them until then
   * @throws RedisUnavailableError when Redis could not be reached
   * @throws the signal's reason
   */
  async acquire(waitMs: number, signal: AbortSignal | undefined): Promise<HeldPermit> {
    signal?.throwIfAborted();
    const until = Deadline.in(waitMs);
    const { inFlight, rooms } = this.access;
    // Shutdown ends its waits, and then waits until it has given up its place.
    inFlight.enter();
    let looking: Promise<Look> | undefined;
    let waitSignal: AbortSignal | undefined;
    try {
      // Others wait here: a message between the first look and its answer must not be missed.
      if (waitMs > 0 && rooms.isSubscribed(this.claim.keys.line)) this.enterRoom();
      for (let isFirst = true; ; isFirst = false) {
        const isLast = !isFirst && until.passed;
        looking = this.look(isLast ? 0 : Math.ceil(until.remainingMs));
        let seen: Look | undefined;
        try {
          seen = await (signal ? untilAborted(looking, signal) : looking);
        } catch (error) {
          if (!(error instanceof RedisUnavailableError) || isFirst || isLast) throw error;
        }
        looking = undefined;
        if (seen instanceof HeldPermit) return this.kept(seen);
        if (seen?.kind === 'busy') {
          const permit = this.granted();
          if (permit) return permit;
          throw new PermitUnavailableError(this.terms.name, Math.max(1, seen.nextMs));
        }
        waitSignal ??= this.waitSignal(signal);
        const permit = await this.untilLook(seen, until, waitSignal);
        if (permit) return permit;
      }
    } catch (error) {
      this.grant?.row.leaves(this.claim.token);
      this.declineGrant();
      if (this.mayHold) this.giveUp(looking);
      throw error;
    } finally {
      if (this.room) rooms.leave(this.claim.keys.line, this.claim.token);
      inFlight.leave();
    }
  }

  /** Waits for a permit, or until it has to look. */
  private async untilLook(
    seen: Waiting | undefined,
    until: Deadline,
    signal: AbortSignal,
  ): Promise<HeldPermit | undefined> {
    for (;;) {
      await this.pause(seen, until, signal);
      const permit = this.granted();
      if (permit || !seen || !this.isFarBack(seen) || until.passed) return permit;
      if (!(await untilAborted(this.stays(until), signal))) return undefined;
    }
  }

  /**
   * The permit that a release in this process has handed over, unless that was so long ago that the
   * lease may end before it is renewed.
   */
  private granted(): HeldPermit | undefined {
    const { grant, claim } = this;
    if (!grant) return undefined;
    if (performance.now() - grant.askedAt > this.terms.leaseMs / 2) return this.declineGrant();
    this.grant = undefined;
    grant.row.leaves(claim.token);
    return this.kept(this.permitOf(grant));
  }

  /**
   * Gives back what a release in this process has handed over. What Redis gave to this claim itself
   * is not of that: the claim finds it when it looks, or leaves it.
   */
  private declineGrant(): undefined {
    const { grant, claim } = this;
    this.grant = undefined;
    if (!grant || grant.row.token === claim.token) return;
    void this.permitOf(grant)
      .giveAway()
      .catch(() => undefined);
  }

  private permitOf({ fence, askedAt, row }: Grant): HeldPermit {
    const { leaseMs, timeoutMs } = this.terms;
    return new HeldPermit(
      this.access,
      this.claim,
      timeoutMs,
      { slot: row.slot, fence, leaseMs },
      askedAt,
      row,
    );
  }

  /** True if it need not look until a message asks for it: others stand in front of it. */
  private isFarBack(seen: Waiting): boolean {
    return seen.nextMs === undefined && !this.isTold && !this.mayHaveMissed;
  }

  /** True if something may have been told before messages arrived. */
  private get mayHaveMissed(): boolean {
    return this.room?.isSubscribed === true && !this.lookedSubscribed;
  }

  /** Tells that it still waits. Resolves with false when it has to look. */
  private async stays(until: Deadline): Promise<boolean> {
    const { claim } = this;
    const { leaseMs, timeoutMs, propagation } = this.terms;
    const call = { claim, leaseMs, waitMs: Math.ceil(until.remainingMs) };
    return await this.access.operations.part(stay, call, { timeoutMs, propagation }).catch(() => false);
  }

  private kept(permit: HeldPermit): HeldPermit {
    this.access.keeper.keep(permit);
    return permit;
  }

  /** False if others of this process wait for the name: it stands in line at once. */
  private get mayBeFree(): boolean {
    const { line, slots } = this.claim.keys;
    return slots.length === 1 && !this.access.rooms.has(line);
  }

  private async look(waitMs: number): Promise<Look> {
    const { claim, ticket } = this;
    const { operations, connection } = this.access;
    const { leaseMs, timeoutMs, propagation } = this.terms;
    const askedAt = performance.now();
    this.lookedSubscribed = this.access.rooms.isSubscribed(claim.keys.line);
    this.isTold = this.grant !== undefined;
    let heldBefore = this.mayHold;
    if (ticket === '') this.ticket = UNKNOWN_TICKET;
    this.mayHold = true;
    let seen: Seen | undefined;
    const deadline = Deadline.in(timeoutMs);
    try {
      const options = { deadline, propagation };
      if (ticket === '' && this.mayBeFree) {
        if (propagation === undefined && isInTransaction())
          assertOutsideTransaction(takeFree.does({ claim, leaseMs }), propagation);
        const taken = await operations.part(takeFree, { claim, leaseMs }, options);
        if (taken.kind === 'granted') seen = taken;
        else if (taken.kind === 'held' && waitMs === 0) seen = { kind: 'busy', nextMs: taken.nextMs };
        else heldBefore = true;
      }
      const look = { claim, leaseMs, waitMs, ticket };
      const lookFor = claim.keys.slots.length === 1 ? lookForOne : lookForAny;
      seen ??= await operations.part(lookFor, look, options);
    } catch (error) {
      // Its time limit has passed: the next call tells what it came to.
      if (error instanceof OutcomeUnknownError) throw connection.unavailable(error);
      this.mayHold = heldBefore;
      throw error;
    }
    this.mayHold = seen.kind !== 'busy';
    if (seen.kind === 'waiting') this.ticket = seen.ticket;

    if (seen.kind !== 'granted') return seen;
    if (performance.now() - askedAt > leaseMs / 2)
      // Answered so late, or this process stood still so long, that the lease may end before it is
      // renewed.
      throw connection.unavailable(new Error('the permit was answered too late for its lease'));
    return new HeldPermit(this.access, claim, timeoutMs, { ...seen, leaseMs }, askedAt);
  }

  /** Waits until this claim is given a permit, a lease ends, or it is time to look. */
  private async pause(seen: Waiting | undefined, until: Deadline, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (!seen) return await sleep(Math.min(LOOK_UNSUBSCRIBED_MS, until.remainingMs), signal);
    const room = this.enterRoom();
    if (this.isTold) return;
    if (!room.isSubscribed) {
      const timeoutMs = Math.max(LOOK_UNSUBSCRIBED_MS, Math.min(LOOK_MS, until.remainingMs));
      // A release in this process hands the permit over meanwhile.
      const told = this.untilTold(timeoutMs, signal);
      void room.subscribe(timeoutMs).then(this.wake);
      await told;
    }
    // The next look finds changes from before the subscription.
    if (this.isTold || this.mayHaveMissed) return;
    const { ahead, nextMs = Infinity } = seen;
    const lookMs = room.isSubscribed ? LOOK_MS : LOOK_UNSUBSCRIBED_MS;
    await this.untilTold(Math.min(lookMs, nextMs + 1 + APART_MS * ahead, until.remainingMs), signal);
  }

  /** Is not in flight meanwhile. */
  private async untilTold(ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { inFlight } = this.access;
    inFlight.leave();
    await new Promise<void>((resolve, reject) => {
      let isOver = false;
      const stop = (): boolean => {
        if (isOver) return false;
        inFlight.enter();
        unschedule(alarm);
        stopListening();
        if (this.wake === end) this.wake = () => undefined;
        return (isOver = true);
      };
      const end = (): void => {
        if (stop()) resolve();
      };
      const alarm = schedule(performance.now() + ms, end);
      const stopListening = whenAborted(signal, () => {
        if (stop()) reject(signal.reason as Error);
      });
      this.wake = end;
    });
  }

  private enterRoom(): WaitingRoom {
    const { keys, token } = this.claim;
    return (this.room ??= this.access.rooms.enter(keys.line, token, (grant) => {
      this.grant = grant ?? this.grant;
      this.isTold = true;
      this.wake();
    }));
  }

  /** Ends the waits of this call. */
  private waitSignal(given: AbortSignal | undefined): AbortSignal {
    const { closing } = this.access;
    return given ? anySignal(given, closing) : closing;
  }

  /**
   * Leaves the line, or gives back what it was given meanwhile, in the background; shutdown waits
   * for it.
   */
  private giveUp(looking: Promise<unknown> | undefined): void {
    const { operations, inFlight, rooms } = this.access;
    const { claim } = this;
    const { timeoutMs } = this.terms;
    const leave = async (): Promise<void> => {
      // A look that arrived behind the release would stand in line again.
      await looking?.catch(() => undefined);
      const options = { timeoutMs, propagation: 'outside' } as const;
      const askedAt = performance.now();
      const call = { claim, keptMs: keptMsOf(timeoutMs) };
      const { heir } = await operations.part(operation.leave, call, options);
      if (heir) rooms.handOver(claim.keys.line, heir, askedAt);
    };
    // Not told, the place in line lapses, or the lease does.
    void inFlight.track(leave).catch(() => undefined);
  }
}
