import { InvalidArgumentError } from '../atomic-redis.errors.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { OperationRunner } from '../operations/operation-runner.js';
import { Deadline } from '../runtime/deadline.js';
import { SLOT_COUNT } from '../scripting/hash-slot.js';
import type { HeldKey, HeldKeys, HeldOptions } from './held.options.js';
import * as operation from './record.operations.js';
import type { RecordSummary } from './record-summary.js';
import { indexOf, stepKeysOf } from './steps/step-keys.js';

/** Slots of a Cluster that a page visits at the most. */
const SLOTS_PER_PAGE = 64;

/** Keys are counted up to this. */
const MAX_COUNT = 100;

/** Entries of the index that one page of a count reads, and pages that one count reads. */
const COUNT_PAGE = 100;
const PAGES_PER_COUNT = 10;

const START: operation.IndexPlace = { before: '', score: '-inf', record: '' };

/** A way through the index that counts what waits. */
interface Counting {
  readonly place: operation.IndexPlace;
  readonly found: number;
}

const NOTHING_COUNTED: Counting = { place: START, found: 0 };

/** Reads the indexes of keys that wait for an operator, one of each slot of a Cluster. */
export class HeldKeyList {
  /** A count that has not come to the end of the index. The next call continues it. */
  private counting = NOTHING_COUNTED;
  /** The result of the last count that came to the end. */
  private counted = 0;

  constructor(
    private readonly connection: RedisConnection,
    private readonly operations: OperationRunner,
  ) {}

  /** @throws InvalidArgumentError for a cursor that is none */
  async page(
    { operation: only, limit = 100, cursor }: HeldOptions,
    heldMs: number,
    timeoutMs: number,
  ): Promise<HeldKeys> {
    const deadline = Deadline.in(timeoutMs);
    const from = cursor === undefined ? { slot: 0, place: START } : parseCursor(cursor);
    const slots = this.connection.isCluster ? SLOT_COUNT : 1;
    const count = Math.min(SLOTS_PER_PAGE, slots - from.slot);
    const indexes = await Promise.all(
      Array.from({ length: count }, (_, i) => {
        const index = indexOf(this.connection, from.slot + i);
        const place = i === 0 ? from.place : START;
        return this.operations.part(operation.listIndex, { index, place, limit }, { deadline });
      }),
    );
    const records: string[] = [];
    let next: { slot: number; place: operation.IndexPlace } | undefined =
      from.slot + count < slots ? { slot: from.slot + count, place: START } : undefined;
    for (const [i, [before, ...found]] of indexes.entries()) {
      const room = limit - records.length;
      const taken = found.slice(0, 2 * room);
      for (let at = 0; at < taken.length; at += 2) records.push(this.recordAs(taken[at]!));
      if (taken.length < 2 * room) continue;
      next = { slot: from.slot + i, place: placeBehind(before!, taken) };
      break;
    }
    const seen = await Promise.all(
      records.map((record) => {
        const keys = stepKeysOf(this.connection, record);
        return this.operations.part(operation.visit, { keys, heldMs }, { deadline });
      }),
    );
    const keys = seen.flatMap((summary, i) => heldKeyOf(records[i]!, summary) ?? []);
    return {
      keys: only === undefined ? keys : keys.filter((key) => key.operation === only),
      ...(next && { cursor: Buffer.from(JSON.stringify(next)).toString('base64url') }),
    };
  }

  /**
   * Counts the keys that wait, up to a hundred; undefined on a Cluster, where too many indexes
   * would have to be read. Keeps none of them for longer.
   *
   * Runs that live have entries too, in front of those that wait. One call reads a thousand entries
   * at the most, and stops while it has the time for another page. The next page begins behind
   * them.
   */
  async count(deadline: Deadline): Promise<number | undefined> {
    if (this.connection.isCluster) return undefined;
    const index = indexOf(this.connection, 0);
    let { place, found } = this.counting;
    let pageMs = 0;
    for (let pages = 0; pages < PAGES_PER_COUNT && deadline.remainingMs >= 2 * pageMs; pages++) {
      const beganAt = performance.now();
      const page = { index, place, limit: COUNT_PAGE };
      const [before, ...entries] = await this.operations.part(operation.listIndex, page, { deadline });
      found = Math.min(MAX_COUNT, found + (await this.countWaiting(entries, deadline)));
      if (found === MAX_COUNT || entries.length < 2 * COUNT_PAGE) {
        this.counting = NOTHING_COUNTED;
        return (this.counted = found);
      }
      place = placeBehind(before!, entries);
      // Kept even if a later page fails.
      this.counting = { place, found };
      pageMs = performance.now() - beganAt;
    }
    return Math.max(found, this.counted);
  }

  /** Entries whose record is gone leave the index. */
  private async countWaiting(entries: readonly string[], deadline: Deadline): Promise<number> {
    const members = entries.filter((_, i) => i % 2 === 0);
    const seen = await Promise.all(
      members.map((member) => {
        const keys = stepKeysOf(this.connection, this.recordAs(member));
        return this.operations.part(operation.visit, { keys, heldMs: 0 }, { deadline });
      }),
    );
    return seen.filter((summary) => summary && stateOf(summary) !== undefined).length;
  }

  /**
   * The scripts put records into the index by their names on the wire, with the client's prefix.
   */
  private recordAs(member: string): string {
    return member.slice(this.connection.keys.keyPrefix.length);
  }
}

/** The place behind these entries of an index: records and scores in turn. */
function placeBehind(before: string, entries: readonly string[]): operation.IndexPlace {
  const [record, score] = entries.slice(-2) as [string, string];
  return { before, score, record };
}

/** Undefined for a record that waits for no operator. */
export function stateOf({ state, reason, aliveMs }: RecordSummary): HeldKey['state'] | undefined {
  if (state === 'done') return reason && 'held';
  return (state === 'lasting' || state === 'failed') && aliveMs === 0 ? 'interrupted' : undefined;
}

function heldKeyOf(record: string, summary: RecordSummary | null): HeldKey | undefined {
  const state = summary && stateOf(summary);
  if (!state) return undefined;
  const { reason, trace, steps } = summary;
  const { operation: of = '', attempt = 1 } = trace ?? {};
  return { record, operation: of, state, ...(reason && { reason }), attempt, steps };
}

function parseCursor(cursor: string): { slot: number; place: operation.IndexPlace } {
  try {
    const { slot, place } = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as {
      slot: unknown;
      place: Record<keyof operation.IndexPlace, unknown>;
    };
    const { before, score, record } = place;
    if (
      Number.isInteger(slot) &&
      (slot as number) >= 0 &&
      (slot as number) < SLOT_COUNT &&
      /^\d*$/.test(before as string) &&
      /^(-inf|\d+)$/.test(score as string) &&
      typeof record === 'string'
    )
      return { slot: slot as number, place: { before, score, record } as operation.IndexPlace };
  } catch {
    // No JSON.
  }
  throw new InvalidArgumentError('options.cursor', 'the cursor of the page before', cursor);
}
