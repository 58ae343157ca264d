import { OutcomeUnknownError, RedisUnavailableError } from '../atomic-redis.errors.js';
import { Deadline, sleep, untilAborted } from '../runtime/deadline.js';
import { randomId } from '../runtime/random-id.js';
import type { WorkInFlight } from '../runtime/work-in-flight.js';
import { HeldPermit, type PermitAccess } from './held-permit.js';
import { PermitUnavailableError } from './permit.errors.js';
import { permitKeys } from './permit-keys.js';
import * as operation from './permit.operations.js';
import type { Claim, Seen } from './permit.operations.js';
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
  /** Names this service instance. */
  readonly process: string;
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
  /** True if something was told since the last look was sent. */
  private isTold = false;

  constructor(
    private readonly access: ClaimAccess,
    private readonly terms: ClaimTerms,
  ) {
    const { name, limit } = terms;
    const token = randomId('base64url');
    const { connection, process } = access;
    this.claim = { name, token, process, keys: permitKeys(connection.keys, name, limit) };
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
    let looking: Promise<Look> | undefined;
    let waitSignal: AbortSignal | undefined;
    try {
      // Others wait here: what is told between the first look and its answer must not be missed.
      if (waitMs > 0 && this.access.rooms.isSubscribed(this.claim.keys.line)) this.enterRoom();
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
        if (seen?.kind === 'busy')
          throw new PermitUnavailableError(this.terms.name, Math.max(1, seen.nextMs));
        await this.pause(seen, until, (waitSignal ??= this.waitSignal(signal)));
        const permit = this.granted();
        if (permit) return permit;
      }
    } catch (error) {
      if (this.mayHold) this.giveUp(looking);
      throw error;
    } finally {
      if (this.room) this.access.rooms.leave(this.claim.keys.line, this.claim.token);
    }
  }

  /**
   * The permit that a release in this process has handed over, unless that was so long ago that the
   * lease may end before it is renewed.
   */
  private granted(): HeldPermit | undefined {
    const { grant, claim } = this;
    this.grant = undefined;
    const { leaseMs, timeoutMs } = this.terms;
    if (!grant || performance.now() - grant.askedAt > leaseMs / 2) return undefined;
    return this.kept(new HeldPermit(this.access, claim, timeoutMs, { ...grant, leaseMs }, grant.askedAt));
  }

  private kept(permit: HeldPermit): HeldPermit {
    this.access.keeper.keep(permit);
    return permit;
  }

  private async look(waitMs: number): Promise<Look> {
    const { claim, ticket } = this;
    const { operations, connection } = this.access;
    const { leaseMs, timeoutMs, propagation } = this.terms;
    const askedAt = performance.now();
    this.lookedSubscribed = this.access.rooms.isSubscribed(claim.keys.line);
    this.isTold = this.grant !== undefined;
    const heldBefore = this.mayHold;
    if (ticket === '') this.ticket = UNKNOWN_TICKET;
    this.mayHold = true;
    let seen: Seen;
    try {
      const look = { claim, leaseMs, waitMs, ticket };
      const options = { timeoutMs, propagation };
      seen = await operations.part(operation.look, look, options);
    } catch (error) {
      // It takes effect no later than now. The next look tells what it came to.
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
    const woken = new Promise<void>((resolve) => (this.wake = resolve));
    const room = this.enterRoom();
    if (this.isTold) return;
    if (!room.isSubscribed) {
      const timeoutMs = Math.max(LOOK_UNSUBSCRIBED_MS, Math.min(LOOK_MS, until.remainingMs));
      await untilAborted(room.subscribe(timeoutMs), signal);
    }
    // The next look finds what was told before messages arrived.
    if (room.isSubscribed && !this.lookedSubscribed) return;
    const isNear = seen.ahead <= this.terms.limit;
    const endMs = isNear ? seen.nextMs + 1 + APART_MS * seen.ahead : Infinity;
    const lookMs = room.isSubscribed ? LOOK_MS : LOOK_UNSUBSCRIBED_MS;
    const stop = new AbortController();
    const passed = sleep(Math.min(lookMs, endMs, until.remainingMs), stop.signal).catch(() => undefined);
    try {
      await untilAborted(Promise.race([woken, passed]), signal);
    } finally {
      stop.abort();
    }
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
    const { operations, inFlight } = this.access;
    const { claim } = this;
    const { timeoutMs } = this.terms;
    const leave = async (): Promise<void> => {
      // A look that arrived behind the release would stand in line again.
      await looking?.catch(() => undefined);
      const options = { timeoutMs, propagation: 'outside' } as const;
      await operations.part(operation.release, { claim, slot: undefined }, options);
    };
    // Not told, the place in line lapses, or the lease does.
    void inFlight.track(leave).catch(() => undefined);
  }
}
