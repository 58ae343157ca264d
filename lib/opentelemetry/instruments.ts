import type { Counter, Histogram, Meter } from '@opentelemetry/api';

/** In seconds, as the semantic conventions for databases advise. */
const DURATIONS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10];
const COUNTS = [1, 2, 3, 5, 10, 20, 50, 100, 200, 512];

export type Instruments = ReturnType<typeof instrumentsOf>;

/** Makes the metrics, with the names and units of docs/telemetry.md. */
export function instrumentsOf(meter: Meter) {
  const histogram = (name: string, unit: string, description: string, boundaries: number[]): Histogram =>
    meter.createHistogram(name, {
      unit,
      description,
      advice: { explicitBucketBoundaries: boundaries },
    });
  const counter = (name: string, unit: string, description: string): Counter =>
    meter.createCounter(name, { unit, description });

  return {
    operationDuration: histogram(
      'atomic_redis.operation.duration',
      's',
      'Time of one operation, from its call to its end',
      DURATIONS,
    ),
    roundTripDuration: histogram(
      'db.client.operation.duration',
      's',
      'Time from sending a command or script to its reply',
      DURATIONS,
    ),
    poolWait: histogram(
      'db.client.connection.wait_time',
      's',
      'Time a transaction waited for a connection of its own',
      DURATIONS,
    ),
    attempts: histogram(
      'atomic_redis.transaction.attempts',
      '{attempt}',
      'Attempts of one transaction',
      COUNTS,
    ),
    conflicts: counter(
      'atomic_redis.transaction.conflicts',
      '{conflict}',
      'Attempts that failed because a watched key had changed',
    ),
    replays: counter(
      'atomic_redis.idempotency.replays',
      '{call}',
      'Calls that were given the result of an earlier one',
    ),
    duplicates: counter(
      'atomic_redis.idempotency.duplicates',
      '{call}',
      'Calls that were refused because their key was taken',
    ),
    leaseLosses: counter(
      'atomic_redis.lease.losses',
      '{lease}',
      'Leases of runs and jobs that were lost while their work was running',
    ),
    outcomesResolved: counter(
      'atomic_redis.outcome.resolved',
      '{command}',
      'Commands whose reply was lost and whose outcome was then found',
    ),
    batchSize: histogram(
      'atomic_redis.counter.batch.size',
      '{operation}',
      'Operations on counters that were sent as one batch',
      COUNTS,
    ),
  };
}
