import { NotReplicatedError } from '../atomic-redis.errors.js';
import { Deadline } from '../redis/deadline.js';
import { CounterState } from './lua-counter.js';

/** Makes the call, and again as long as it was spent on giving back expired holds, within `timeoutMs` altogether. */
export async function untilSwept(
  timeoutMs: number,
  call: (timeoutMs: number) => Promise<string>,
): Promise<string> {
  const deadline = Deadline.in(timeoutMs);
  for (;;) {
    const answer = await call(Math.max(1, Math.ceil(deadline.remainingMs))).catch((error: unknown) => {
      // Called again, it is waited for again.
      if (error instanceof NotReplicatedError && error.result === CounterState.More) return CounterState.More;
      throw error;
    });
    if (answer !== CounterState.More) return answer;
  }
}
