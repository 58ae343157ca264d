import { idempotencyDefaults } from '../../lib/idempotency/idempotency.options.js';

/**
 * Gives a claim more than the 800 ms that it has by default, so that no test fails because a busy
 * machine stalls for a second. A test for which the time matters sets it.
 */
idempotencyDefaults.timeoutMs = 3_000;
