import { openLoop } from './open-loop.js';
import { perCore } from './per-core.js';
import { comparison, OURS, type Bar, type Workload } from './workload.js';
import { transactionContended } from './workloads/contended.js';
import { counterHot, counterKeys } from './workloads/counters.js';
import { endpoint } from './workloads/endpoint.js';
import { consumers } from './workloads/consumers.js';
import { growth } from './workloads/growth.js';
import { idempotentFirst, idempotentReplay } from './workloads/idempotency.js';
import { limitHot, limitKeys, limitSeveral } from './workloads/limits.js';
import { permitContended, permitDistinct } from './workloads/permits.js';
import { queues } from './workloads/queues.js';
import { raceLab } from './workloads/race-lab.js';
import { runSteps } from './workloads/steps.js';
import { shadowSwap } from './workloads/shadow-swap.js';
import { sizing } from './workloads/sizing.js';
import { telemetry, tracing } from './workloads/telemetry.js';
import { transactionPush } from './workloads/transaction-push.js';
import { transactionDistinct, transactionHot } from './workloads/transactions.js';

const NODE_IDEMPOTENCY = '@node-idempotency';

/** At half of saturation, ours beside the floor. */
const latencyBar = (floor: string): Bar => ({
  contestant: OURS,
  against: floor,
  figure: 'p99, ms',
  most: 1.2,
});

/** All there is, in the order of bench/results.md. */
export const workloads: readonly Workload[] = [
  comparison(idempotentFirst),
  comparison(idempotentReplay),
  perCore(idempotentFirst, { bars: [{ contestant: OURS, against: NODE_IDEMPOTENCY, least: 0.77 }] }),
  perCore(idempotentReplay, { bars: [{ contestant: OURS, against: NODE_IDEMPOTENCY, least: 0.83 }] }),
  openLoop(idempotentFirst, [latencyBar(idempotentFirst.floor)]),
  openLoop(idempotentReplay, [latencyBar(idempotentReplay.floor)]),
  comparison(runSteps),
  comparison(counterHot),
  comparison(counterKeys),
  perCore(counterHot, { bars: [] }),
  perCore(counterKeys, { bars: [] }),
  openLoop(counterKeys, [latencyBar(counterKeys.floor)]),
  comparison(limitHot),
  comparison(limitKeys),
  comparison(limitSeveral),
  comparison(transactionDistinct),
  comparison(transactionHot),
  transactionContended,
  perCore(transactionDistinct, { bars: [] }),
  openLoop(transactionDistinct, [latencyBar(transactionDistinct.floor)]),
  comparison(transactionPush),
  comparison(permitDistinct),
  comparison(permitContended),
  endpoint,
  raceLab,
  comparison(queues),
  perCore(queues, {
    // BullMQ's queue and its worker have a connection each.
    merged: true,
    bars: [
      { contestant: OURS, against: 'BullMQ', figure: 'server CPU, µs/op', most: 0.75, at: [1] },
      { contestant: OURS, against: 'BullMQ', figure: 'server CPU, µs/op', most: 0.25, at: [64] },
    ],
  }),
  openLoop(queues, [latencyBar(queues.floor)]),
  consumers,
  shadowSwap,
  growth,
  sizing,
  comparison(telemetry),
  comparison(tracing),
];
