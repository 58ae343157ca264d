/** The last moment that was given out, in µs. */
let lastMoment = 0;

/**
 * Names a job among the delayed ones, as `luaDelay` does: its id behind 21 digits that tell the
 * order of jobs that are due in one millisecond. Each call gets a later place than the one before.
 *
 * @param nowMs the time of the queue's server
 */
export function delayedMember(id: string, nowMs: number): string {
  lastMoment = Math.max(nowMs * 1_000, lastMoment + 1);
  return `${String(lastMoment).padStart(16, '0')}00001${id}`;
}
