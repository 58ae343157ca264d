import { callingWorker } from './calling-worker.js';
import { runRandomBody, type ChainReport } from './random-body.js';

/** A promise that nobody handles ends it. */
callingWorker<ChainReport>(runRandomBody);
