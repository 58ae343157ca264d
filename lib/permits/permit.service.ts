import { setMaxListeners } from 'node:events';
import { Inject, Injectable, Logger } from '@nestjs/common';
import { OPTIONS } from '../atomic-redis.constants.js';
import { IllegalTransactionStateError } from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import { KeySignals } from '../connection/key-signals.js';
import { RedisConnection } from '../connection/redis-connection.js';
import { renewInBatches } from '../leases/batched-renewal.js';
import { LeaseKeeper } from '../leases/lease-keeper.js';
import { currentPermit, runUnderPermit, type Permit } from '../leases/permit.js';
import { Observer } from '../observability/observer.js';
import { OperationRunner } from '../operations/operation-runner.js';
import { randomId } from '../runtime/random-id.js';
import { WorkInFlight } from '../runtime/work-in-flight.js';
import { HeldPermit } from './held-permit.js';
import { Leaders } from './leaders.js';
import { PROCESS_LENGTH } from './lua-permit.js';
import { PermitClaim, type ClaimAccess } from './permit-claim.js';
import { PermitUnavailableError } from './permit.errors.js';
import {
  checkAcquireOptions,
  checkLeadOptions,
  checkTryAcquireOptions,
  type AcquireOptions,
  type LeadOptions,
  type PermitModuleOptions,
  type TryAcquireOptions,
} from './permit.options.js';
import * as operation from './permit.operations.js';
import { WaitingRooms } from './waiting-rooms.js';

/** The permits of one process. @inline */
type Status = {
  /** Number of permits that it holds. */
  readonly held: number;
  /** Number of its calls that wait for one. */
  readonly waiting: number;
};

/** @inline */
export type PermitStatus = Status;

/** The longest wait that a timer of Node.js allows, some 24 days. */
const LONGEST_WAIT_MS = 2 ** 31 - 1;

/**
 * Permits that a bounded number of processes hold at a time: a lock, with `limit` a semaphore, with
 * {@link lead} a leader.
 *
 * A permit is a lease: a process that stops for longer than the lease loses it, and may continue
 * without knowing. So a permit alone protects nothing outside Redis. Pass it as `{ permit }` to a
 * transaction or a scripted call, and Redis refuses the writes of a holder that lost it; elsewhere
 * compare its `fence`.
 */
@Injectable()
export class PermitService {
  private readonly logger = new Logger(PermitService.name);
  private readonly defaults: Required<PermitModuleOptions>;
  private readonly timeoutMs: number;
  private readonly access: ClaimAccess;
  private readonly signals: KeySignals;
  private readonly keeper: LeaseKeeper<HeldPermit>;
  private readonly closing = new AbortController();
  private readonly leaders: Leaders;
  private waiting = 0;

  /** @internal */
  constructor(
    private readonly connection: RedisConnection,
    private readonly operations: OperationRunner,
    private readonly inFlight: WorkInFlight,
    private readonly observer: Observer,
    @Inject(OPTIONS) options: ResolvedOptions,
  ) {
    this.defaults = options.permits;
    this.timeoutMs = options.permits.timeoutMs;
    this.signals = new KeySignals(connection);
    this.keeper = new LeaseKeeper((due, lengthMs) => this.renew(due, lengthMs));
    const rooms = new WaitingRooms(this.signals);
    const process = randomId('base64url').slice(0, PROCESS_LENGTH);
    let tokens = 0;
    const nextToken = (): string => process + (tokens++).toString(36);
    const closing = this.closing.signal;
    this.access = {
      connection,
      operations,
      observer,
      inFlight,
      rooms,
      keeper: this.keeper,
      nextToken,
      closing,
    };
    setMaxListeners(0, closing);
    this.leaders = new Leaders(
      (name, given, signal) =>
        observer.operation('permits.acquire', () => this.take(name, given, LONGEST_WAIT_MS, signal)),
      (permit, work) => inFlight.track(() => this.runUnder(permit, work)),
    );
  }

  /**
   * Acquires a permit, and waits for it. Those that wait are served in the order in which they
   * came.
   *
   * ```ts
   * const permit = await permits.acquire('report:{7}', { leaseMs: 10_000 });
   * try { await transactions.run(['report:{7}'], (tx) => …, { permit }); } finally { await permit.release(); }
   * ```
   *
   * On a Cluster the name decides the hash slot: give it the tag of the keys that it protects.
   *
   * @throws PermitUnavailableError when others held it until `waitMs` had passed
   * @throws InvalidArgumentError before any I/O
   * @throws IllegalTransactionStateError inside an open transaction
   * @throws RedisUnavailableError when Redis could not be reached in time; a permit that was given
   * is given back
   * @throws RedisReplyError when Redis refused it, as when its memory is full
   * @throws ModuleClosedError when the module is closed while it waits; the reason of `signal`
   */
  async acquire(name: string, options: AcquireOptions = {}): Promise<Permit> {
    return await this.observer.operation('permits.acquire', () => {
      check.key('name', name);
      checkAcquireOptions('options', options);
      return this.take(name, options, options.waitMs ?? this.defaults.waitMs, options.signal);
    });
  }

  /**
   * Acquires a permit if one is free and nothing waits for it.
   *
   * @returns null when there is none
   * @throws as {@link acquire} does, except for PermitUnavailableError
   */
  async tryAcquire(name: string, options: TryAcquireOptions = {}): Promise<Permit | null> {
    const tryAcquire = async (): Promise<Permit | null> => {
      check.key('name', name);
      checkTryAcquireOptions('options', options);
      try {
        return await this.take(name, options, 0, undefined);
      } catch (error) {
        if (error instanceof PermitUnavailableError) return null;
        throw error;
      }
    };
    return await this.observer.operation('permits.tryAcquire', tryAcquire, {
      changed: (permit) => permit !== null,
    });
  }

  /**
   * Acquires a permit, runs `work` under it, and releases it. Code inside reaches it as `permit:
   * 'current'`.
   *
   * `work` should end when `permit.signal` aborts. A release that fails is logged; the permit ends
   * with its lease then.
   *
   * @returns what `work` returns, also when the permit was lost meanwhile: only enforced writes
   * know better
   * @throws whatever `work` throws, the same instance
   * @throws as {@link acquire} does; `work` does not run
   */
  async withPermit<T>(
    name: string,
    work: (permit: Permit) => Promise<T> | T,
    options: AcquireOptions = {},
  ): Promise<T> {
    check.func('work', work);
    return await this.inFlight.track(async () => {
      const permit = await this.acquire(name, options);
      return await this.runUnder(permit, work);
    });
  }

  /**
   * Waits to be the only one with this name, for as long as it takes, and runs `work` as the
   * leader. When the permit is lost, `permit.signal` aborts; once `work` has settled, this waits to
   * lead again.
   *
   * Shutdown aborts the signal and waits for `work`; the next leader takes over at once when it
   * settles in time.
   *
   * @returns what `work` returns, when it settled while it led
   * @throws whatever `work` throws while it leads, the same instance
   * @throws the reason of `signal`; ModuleClosedError when the module closes
   * @throws InvalidArgumentError; RedisReplyError for a refusal that lasts, as of a user without
   * the rights
   */
  async lead<T>(
    name: string,
    work: (permit: Permit) => Promise<T> | T,
    options: LeadOptions = {},
  ): Promise<T> {
    check.key('name', name);
    check.func('work', work);
    checkLeadOptions('options', options);
    return await this.leaders.lead(name, work, options);
  }

  /**
   * Returns the innermost permit that the calling code runs under.
   * @throws IllegalTransactionStateError outside of `@WithPermit()`, `withPermit` and `lead`
   */
  current(): Permit {
    const permit = currentPermit();
    if (permit) return permit;
    throw new IllegalTransactionStateError(
      'There is no permit: use it inside @WithPermit(), PermitService.withPermit() or lead()',
    );
  }

  /** The permits of this process. @internal */
  get status(): PermitStatus {
    return { held: this.keeper.size, waiting: this.waiting };
  }

  /**
   * Tells leaders to stop, and waits for their work up to `timeoutMs`. Called by the module when it
   * shuts down.
   * @internal
   */
  async stopLeaders(timeoutMs: number): Promise<void> {
    await this.leaders.stop(this.connection.closedError(), timeoutMs);
  }

  /** Ends every wait for a permit. @internal */
  endWaits(): void {
    this.leaders.tellToStop(this.connection.closedError());
    this.closing.abort(this.connection.closedError());
  }

  /**
   * Renews nothing any more: the signals of held permits abort, and their leases decide.
   * @internal
   */
  close(): void {
    this.endWaits();
    this.keeper.close(this.connection.closedError());
    this.signals.close();
  }

  private async runUnder<T>(permit: Permit, work: (permit: Permit) => Promise<T> | T): Promise<T> {
    try {
      return await runUnderPermit(permit, () => work(permit));
    } finally {
      await permit
        .release()
        .catch((error: Error) =>
          this.logger.warn(`A permit could not be released; it ends with its lease: ${error.message}`),
        );
    }
  }

  private async take(
    name: string,
    options: TryAcquireOptions,
    waitMs: number,
    signal: AbortSignal | undefined,
  ): Promise<HeldPermit> {
    const { limit = 1, leaseMs = this.defaults.leaseMs, timeoutMs = this.timeoutMs, propagation } = options;
    const claim = new PermitClaim(this.access, { name, limit, leaseMs, timeoutMs, propagation });
    this.waiting++;
    try {
      return await claim.acquire(waitMs, signal);
    } finally {
      this.waiting--;
    }
  }

  private renew(due: readonly HeldPermit[], lengthMs: number | undefined) {
    const { isCluster, keys } = this.connection;
    const slotOf = ({ key }: HeldPermit): number => (isCluster ? keys.slotOf(key) : 0);
    return renewInBatches(due, lengthMs, slotOf, ({ leases, lengths, deadline }) => {
      const renewals = {
        slots: leases.map(({ key }) => key),
        leases: leases.flatMap(({ token }, i) => [token, lengths[i]!]),
      };
      return this.operations.part(operation.renew, renewals, { deadline });
    });
  }
}
