import { InvalidArgumentError } from '../../atomic-redis.errors.js';
import type { OperationRunner } from '../../operations/operation-runner.js';
import { Deadline } from '../../runtime/deadline.js';
import { SLOT_COUNT } from '../../scripting/hash-slot.js';
import type { RedisConnection } from '../../connection/redis-connection.js';
import type { PendingTransfers, PendingTransfersOptions } from './across-slots.options.js';
import { list } from './pending-transfer.operations.js';
import type { PendingTransfer } from './pending-transfer.js';

/** The number of slots that are asked at the same time. */
const SLOTS_AT_ONCE = 1_024;

/** The most that is read of one slot at once, since all slots of a round are in memory together. */
const MOST_OF_SLOT = 100;

const CURSOR = /^(\d{1,5}):(\d+-[\w-]+)$/;

/** Reads the transfers under way, from one list in each slot. */
export class PendingTransferList {
  constructor(
    private readonly connection: RedisConnection,
    private readonly operations: OperationRunner,
  ) {}

  /**
   * @param timeoutMs for each round of reads
   * @throws InvalidArgumentError for a text that is not a cursor
   */
  async page(
    { from, cursor, minAgeMs = 0, limit = 100 }: PendingTransfersOptions,
    timeoutMs: number,
  ): Promise<PendingTransfers> {
    const only = from === undefined ? undefined : this.connection.keys.slotOf(from);
    const last = only ?? SLOT_COUNT - 1;
    let { slot, after } = cursor === undefined ? { slot: only ?? 0, after: '' } : parseCursor(cursor, only);
    const transfers: PendingTransfer[] = [];
    for (; slot <= last; slot += SLOTS_AT_ONCE, after = '') {
      const first = slot;
      const count = Math.min(SLOTS_AT_ONCE, last - first + 1);
      const deadline = Deadline.in(timeoutMs);
      const most = Math.min(limit - transfers.length, MOST_OF_SLOT);
      const lists = await Promise.all(
        Array.from({ length: count }, (_, i) => {
          const page = { slot: first + i, after: i === 0 ? after : '', minAgeMs, limit: most };
          return this.operations.part(list, page, { deadline });
        }),
      );
      for (const [i, page] of lists.entries()) {
        transfers.push(...page.slice(0, limit - transfers.length));
        // This slot may have more.
        if (transfers.length === limit || page.length === most)
          return { transfers, cursor: `${first + i}:${transfers.at(-1)!.id}` };
      }
    }
    return { transfers };
  }
}

function parseCursor(cursor: string, only: number | undefined): { slot: number; after: string } {
  const [, slot, after] = CURSOR.exec(cursor) ?? [];
  if (after === undefined || Number(slot) >= SLOT_COUNT || (only !== undefined && Number(slot) !== only))
    throw new InvalidArgumentError('options.cursor', 'the cursor of the page before', cursor);
  return { slot: Number(slot), after };
}
