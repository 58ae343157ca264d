import { setTimeout as sleep } from 'node:timers/promises';
import type { Answer } from './scenario.js';

/**
 * A customer gives up after so many answers in a row that the request is in flight: in 6 s or more.
 * The atomic handlers keep the key of a process that died for less than that.
 */
const PATIENCE = 30;
const PAUSE_MS = 200;

export type Confirmation = 'confirmed' | 'in flight' | 'unknown';

export function confirmationOf({ outcome, body }: Answer): Confirmation {
  // A process killed between EXEC and response leaves no response to replay. The problem then says
  // that the work was done.
  if (outcome === 'accepted' || body?.['outcome'] === 'applied') return 'confirmed';
  return outcome === 'conflict' ? 'in flight' : 'unknown';
}

/**
 * Asks again until the answer is a confirmation. Returns true where patience ran out. Out of time
 * is not refused: the page says that the run was cut short.
 */
export async function isGivenUp(
  answer: Confirmation,
  ask: () => Promise<Confirmation>,
  closing: AbortSignal,
): Promise<boolean> {
  let inFlight = 0;
  while (answer !== 'confirmed' && !closing.aborted) {
    inFlight = answer === 'in flight' ? inFlight + 1 : 0;
    if (inFlight === PATIENCE) return true;
    await sleep(PAUSE_MS);
    answer = await ask();
  }
  return false;
}
