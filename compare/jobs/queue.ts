import { later } from '../actor.js';
import type { Told } from '../messages.js';
import { callOnce, callUntilOk, settle, HUNG_MS, type Run, type Scenario } from './scenario.js';

const JOBS = 3;

/** One process pushes three jobs, both consume; at the end another job is pushed. */
export const queue: Scenario = async (run) => {
  const { arena, key, judge } = run;
  const [struck, other] = [arena.actors[0]!, arena.actors[1]!];
  const jobs: { id: string; told: Told }[] = [];
  for (let i = 0; i < JOBS; i++)
    jobs.push({ id: `${key}-${i}`, told: await callOnce(struck, { key: `${key}-${i}` }) });
  const isDrained = await drained(run, jobs);
  await settle(run);
  const last = `${key}-last`;
  const pushed = await callUntilOk(other, { key: last });
  const isLastDone = await drained(run, [{ id: last, told: pushed }]);
  if (pushed.kind !== 'ok' || !isLastDone)
    judge.say('stuck', 'the job that was pushed at the end was not done');
  for (const { id, told } of jobs) {
    const times = await effectsOf(run, id);
    if (told.kind === 'ok' && times === 0 && !isDrained) judge.say('stuck', `${id} was not done in time`);
    else judge.call(`job ${id}`, told, times);
  }
  if ((await effectsOf(run, last)) > 1) judge.say('doubled', 'the job that was pushed at the end');
};

/** Waits until the queue is idle twice in a row; false when it is not in time. */
export async function drained(run: Run, jobs: readonly { id: string; told: Told }[]): Promise<boolean> {
  const end = performance.now() + HUNG_MS;
  for (let idle = 0; idle < 2;) {
    if (performance.now() > end) return false;
    await later(100, undefined);
    const told = await callOnce(run.arena.actors[1]!, { key: run.key, isIdle: true }, 2_000);
    const counts = await Promise.all(jobs.map(({ id }) => effectsOf(run, id)));
    const isIdle = told.kind === 'ok' && told.value === true;
    const areDone = jobs.every(({ told: { kind } }, i) => kind !== 'ok' || counts[i]! > 0);
    // A lost job makes the queue idle without it: look a little longer.
    idle = isIdle && (areDone || performance.now() > end - HUNG_MS + 6_000) ? idle + 1 : 0;
  }
  return true;
}

/** At the witness, or in Redis where the consumer's effect is there. */
async function effectsOf({ arena }: Run, id: string): Promise<number> {
  const [outside, inside] = await Promise.all([
    arena.witness.llen(`effects:${id}`),
    arena.read((admin) => admin.llen(`effects:${id}`)),
  ]);
  return outside + inside;
}
