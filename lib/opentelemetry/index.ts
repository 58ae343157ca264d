import { metrics, trace } from '@opentelemetry/api';
import type { Telemetry } from '../observability/telemetry.js';
import { OpenTelemetryReporter } from './reporter.js';

const SCOPE = 'nestjs-atomic-redis';

/**
 * Reports traces and metrics to the OpenTelemetry SDK of the application, for the module's
 * `telemetry` option:
 *
 * ```ts
 * AtomicRedisModule.forRoot({ connection: 'redis://localhost:6379', namespace: 'shop:', telemetry: openTelemetry() })
 * ```
 *
 * Start the SDK before Nest creates its providers. Signals that the SDK does not collect cost next
 * to nothing. docs/telemetry.md lists everything that is recorded; no key and no value is among it.
 */
export function openTelemetry(): Telemetry {
  return {
    // Called when the services are made: a meter that is created ahead of the SDK never measures.
    attach: (source) => new OpenTelemetryReporter(trace.getTracer(SCOPE), metrics.getMeter(SCOPE), source),
  };
}
