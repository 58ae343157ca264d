import { callingWorker } from './calling-worker.js';
import { makeCall, type CallReport } from './calls.js';

callingWorker<CallReport>(
  async ({ transactions, id, random, reports }) =>
    void reports.push(await makeCall(transactions, id, random)),
);
