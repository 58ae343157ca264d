import { metrics, trace } from '@opentelemetry/api';
import type { Telemetry } from '../observability/telemetry.js';
import { OpenTelemetryFollower } from './follower.js';

const SCOPE = 'nestjs-atomic-redis';

/**
 * Traces and metrics by the OpenTelemetry SDK that the application has set up, for the `telemetry` option of the module:
 *
 * ```ts
 * AtomicRedisModule.forRoot({ connection: 'redis://localhost:6379', namespace: 'shop:', telemetry: openTelemetry() })
 * ```
 *
 * The SDK is to be started before Nest makes its providers. Without one, or with a part of it, what is missing costs next to nothing.
 * docs/telemetry.md lists all that is recorded; no key and no value is among it.
 */
export function openTelemetry(): Telemetry {
  return {
    // Not before: a meter that is asked for ahead of the SDK never measures.
    attach: (source) => new OpenTelemetryFollower(trace.getTracer(SCOPE), metrics.getMeter(SCOPE), source),
  };
}
