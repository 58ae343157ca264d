import { TransferService, type ConnectionOption } from '../../../lib/index.js';
import { TransferSteps } from '../../../lib/transfers/across-slots/transfer-steps.js';
import { startApp } from '../../support/app.js';
import { worker } from '../../support/worker.js';
import { hookSteps, type Step } from './support.js';

/**
 * Makes one transfer, or recovers what is under way from `from`, and stops before or after one step
 * until its message to continue.
 */
export interface StepJob {
  connection: ConnectionOption;
  does: 'transfer' | 'recover';
  from: string;
  to: string;
  amount: number;
  stopAt: { step: Step; when: 'before' | 'after' };
  /** For how long after it was seen open it asks the target to decide. Default: as ever. */
  validForMs?: number;
  /** Time-out of the transfer; stopped time counts. Default: the service's. */
  timeoutMs?: number;
}

worker<StepJob>(async ({ data, send, next }) => {
  const app = await startApp({ connection: data.connection });
  let hasStopped = false;
  // Once: a step may be made again.
  const stop = async (): Promise<void> => {
    if (hasStopped) return;
    hasStopped = true;
    send('stopped');
    await next();
  };
  hookSteps(app, async (step, run) => {
    if (step !== data.stopAt.step) return await run();
    if (data.stopAt.when === 'before') await stop();
    const result = await run();
    if (data.stopAt.when === 'after') await stop();
    return result;
  });
  if (data.validForMs !== undefined) {
    const { validUntilMs } = TransferSteps.prototype;
    TransferSteps.prototype.validUntilMs = async function (to, timeoutMs) {
      // Learns the clock, if it is not known yet, in more time than that.
      await validUntilMs.call(this, to, timeoutMs);
      return await validUntilMs.call(this, to, data.validForMs!);
    };
  }
  const transfers = app.get(TransferService);
  const { from, to, amount, timeoutMs } = data;
  const result =
    data.does === 'transfer'
      ? await transfers.acrossSlots({ from, to, amount }, timeoutMs === undefined ? {} : { timeoutMs })
      : await transfers.recover({ from, minAgeMs: 0 });
  await app.close();
  return result;
});
