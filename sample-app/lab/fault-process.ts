import { startFaultProxy, type Fault } from 'nestjs-atomic-redis/testing';
import { FAULTS, type FaultName, type LabFault } from './faults.js';

/**
 * The fault proxy of the lab, in a process of its own. Beside the callers, in one event loop, each
 * round trip to Redis would wait until all callers have had their turn.
 */
process.on('disconnect', () => process.exit());
// Ctrl-C in a terminal reaches this process too: the lab decides when it ends.
process.on('SIGINT', () => {});

export type FaultRequest = { arm: FaultName } | { ask: 'count' } | { ask: 'reset' };

let armed: Fault | undefined;
const proxy = await startFaultProxy({ target: process.argv[2]! });

/** @returns how often the armed fault has struck */
function answer(request: FaultRequest): number {
  if ('arm' in request) {
    const fault: LabFault = FAULTS[request.arm];
    armed = fault.arm?.(proxy);
  } else if (request.ask === 'reset') {
    proxy.reset();
    armed = undefined;
  }
  return armed?.count ?? 0;
}

process.on('message', (request: FaultRequest) => process.send!(answer(request)));
process.send!(proxy.url);
