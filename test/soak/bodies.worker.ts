import { callingWorker } from './calling-worker.js';
import { runRandomBody, type ChainReport } from './random-body.js';

/** An unhandled rejection ends it. */
callingWorker<ChainReport>(runRandomBody);
