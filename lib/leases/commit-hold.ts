import { LeaseLostError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { Deadline } from '../runtime/deadline.js';
import { isKept, type LeaseKeeper, type PausableLease } from './lease-keeper.js';

/**
 * The least time by which the lease outlasts the transaction, in milliseconds: renewal begins again
 * after EXEC was answered.
 */
const MARGIN_MS = 1_000;

/** Returns the monotonic time until which a lease has to last for a transaction to commit it. */
export const leaseEndFor = (deadline: Deadline, lookMs: number): number => deadline.at + MARGIN_MS + lookMs;

/**
 * Holds a lease still while a transaction watches its key: prolongs it where it would end before
 * the transaction may, and holds renewals back, which would touch the key and abort the holder's
 * own EXEC.
 */
export class CommitHold<L extends PausableLease> {
  private renewalsAtBegin = 0;

  /** @param spare as in `LeaseKeeper.prolongAndPause` */
  constructor(
    private readonly connection: RedisConnection,
    private readonly keeper: LeaseKeeper<L>,
    private readonly lease: L,
    private readonly spare = 1,
  ) {}

  /**
   * Call it before WATCH, and {@link end} after EXEC unless it rejects.
   * @throws LeaseLostError when the lease is lost
   * @throws RedisUnavailableError when it could not be prolonged in time; the transaction was
   * surely not applied
   */
  async begin(deadline: Deadline): Promise<void> {
    const { connection, keeper, lease, spare } = this;
    try {
      const until = leaseEndFor(deadline, lease.lookMs);
      const isHeld = await deadline.race(keeper.prolongAndPause(lease, until, spare), () =>
        connection.unavailable(),
      );
      if (!isHeld) throw new LeaseLostError('not-applied');
      this.renewalsAtBegin = lease.renewals;
    } catch (error) {
      keeper.resume(lease);
      throw error instanceof OutcomeUnknownError ? connection.unavailable(error) : error;
    }
  }

  /**
   * Lets the lease be renewed again. Tells whether its key was touched since `begin`, or the lease
   * was lost.
   */
  end(): { touched: boolean } {
    const { keeper, lease } = this;
    // If the lease was lost meanwhile, the next attempt's begin reports it.
    const touched = lease.renewals !== this.renewalsAtBegin || !isKept(lease);
    keeper.resume(lease);
    return { touched };
  }
}
