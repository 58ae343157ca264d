import * as auditedHashes from './audited-hashes/audited-hash.operations.js';
import * as addAll from './counters/add-all.operations.js';
import * as reservations from './counters/reservations/reservation.operations.js';
import * as records from './idempotency/record.operations.js';
import * as limits from './limits/limit.operations.js';
import * as limitSweeps from './limits/sweep.operations.js';
import * as throttling from './limits/throttle.operations.js';
import * as limitReservations from './limits/reservation.operations.js';
import * as lists from './lists/list.operations.js';
import type { ScriptedOperationType } from './observability/event-types.js';
import type { Operation } from './operations/operation.js';
import * as permits from './permits/permit.operations.js';
import * as permitAcquiring from './permits/acquire.operations.js';
import * as permitTaking from './permits/take-free.operation.js';
import * as queueAdvance from './queues/settle-and-take.operations.js';
import * as queuePush from './queues/push.operations.js';
import * as queues from './queues/queue.operations.js';
import * as shadowKeys from './shadow-keys/shadow-key.operations.js';
import * as acrossSlots from './transfers/across-slots/across-slots.operations.js';
import * as pendingTransfers from './transfers/across-slots/pending-transfer.operations.js';
import * as transfers from './transfers/transfer.operations.js';
import * as values from './values/value.operations.js';

/** The calls of each service, by the name of their definition. */
const SERVICES = { auditedHashes, limits, limitReservations, lists, reservations, transfers, values };

/** Parts of calls: they have no event of their own. */
const PARTS = {
  acrossSlots,
  addAll,
  limitSweeps,
  pendingTransfers,
  permitAcquiring,
  permitTaking,
  permits,
  queueAdvance,
  queuePush,
  queues,
  records,
  shadowKeys,
  throttling,
};

/**
 * Every scripted operation of the library: the scripts to load on each connect, and what the
 * contract tests go through.
 */
export const ALL_OPERATIONS: readonly Operation[] = Object.values<Readonly<Record<string, unknown>>>({
  ...SERVICES,
  ...PARTS,
}).flatMap((definitions) => Object.values(definitions).filter(isOperation));

type TypesIn<Service> = {
  [Name in keyof Service]: Service[Name] extends {
    readonly type: infer Type extends string;
    readonly script: object;
  }
    ? Type
    : never;
}[keyof Service];

/** The types of the services' definitions. */
type DefinedType = {
  [Name in keyof typeof SERVICES]: TypesIn<(typeof SERVICES)[Name]>;
}[keyof typeof SERVICES];

/** `true` where two unions have the same members. */
type Same<One, Other> = [One, Other] extends [Other, One] ? true : false;

// Does not compile where a definition has no event type, or an event type no definition.
true satisfies Same<DefinedType, ScriptedOperationType>;

function isOperation(value: unknown): value is Operation {
  return typeof value === 'object' && value !== null && 'script' in value && 'type' in value;
}
