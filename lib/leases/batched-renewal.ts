import { Deadline } from '../runtime/deadline.js';
import type { Renewal, RenewableLease } from './lease-keeper.js';

/** The number of leases that one call renews. */
const LEASES_PER_CALL = 256;

/** The longest time for which a renewal may arrive, in milliseconds. */
export const MAX_RENEWAL_MS = 60_000;

/** A lease whose end its renewal moves. */
interface OwnedLease extends RenewableLease {
  endsAt: number;
}

/** Renewals that leave as one script. */
export interface RenewalBatch<L> {
  readonly leases: readonly L[];
  /** The length to give each, in milliseconds. */
  readonly lengths: readonly number[];
  /** A third of the shortest lease from now, and a minute at the most. */
  readonly deadline: Deadline;
}

/**
 * Renews leases by one call for all; on a Cluster, by one for each slot, at the same time. Moves
 * the ends of those that were renewed.
 *
 * @param lengthMs in place of each lease's own length
 */
export function renewInBatches<L extends OwnedLease>(
  leases: readonly L[],
  lengthMs: number | undefined,
  slotOf: (lease: L) => number,
  send: (batch: RenewalBatch<L>) => Promise<readonly Renewal[]>,
): readonly Promise<Renewal>[] {
  const answers = new Map<L, Promise<Renewal>>();
  for (const batch of batchesOf(leases, slotOf)) {
    const renewed = renewBatch(batch, lengthMs, send);
    batch.forEach((lease, i) =>
      answers.set(
        lease,
        renewed.then((renewals) => renewals[i]!),
      ),
    );
  }
  return leases.map((lease) => answers.get(lease)!);
}

async function renewBatch<L extends OwnedLease>(
  leases: readonly L[],
  lengthMs: number | undefined,
  send: (batch: RenewalBatch<L>) => Promise<readonly Renewal[]>,
): Promise<readonly Renewal[]> {
  const sentAt = performance.now();
  const lengths = leases.map(({ leaseMs }) => lengthMs ?? leaseMs);
  const shortest = Math.min(...leases.map(({ leaseMs }) => leaseMs));
  const deadline = Deadline.in(Math.min(shortest / 3, MAX_RENEWAL_MS));
  const renewals = await send({ leases, lengths, deadline });
  leases.forEach((lease, i) => {
    if (renewals[i] === 'renewed') lease.endsAt = sentAt + lengths[i]!;
  });
  return renewals;
}

function batchesOf<L>(leases: readonly L[], slotOf: (lease: L) => number): L[][] {
  const bySlot = new Map<number, L[]>();
  for (const lease of leases) {
    const slot = slotOf(lease);
    const together = bySlot.get(slot);
    if (together) together.push(lease);
    else bySlot.set(slot, [lease]);
  }
  return [...bySlot.values()].flatMap((together) =>
    Array.from({ length: Math.ceil(together.length / LEASES_PER_CALL) }, (_, i) =>
      together.slice(i * LEASES_PER_CALL, (i + 1) * LEASES_PER_CALL),
    ),
  );
}
