import { describe } from '../../atomic-redis.errors.js';
import { untilAborted } from '../../runtime/deadline.js';
import { ProbeFailedError } from '../idempotency.errors.js';
import type { AbandonedFinding, AbandonedProbe, AbandonedRun } from '../abandoned.options.js';
import type { ProbedStep, ProbeFinding, StepProbe } from './step.options.js';
import { anySignal } from '../../runtime/any-signal.js';

/**
 * Asks the probe of a step, for so long.
 *
 * @throws ProbeFailedError when it throws, is too slow, or finds what is no finding
 */
export const stepFinding = <T>(
  step: string,
  probe: StepProbe<T>,
  context: ProbedStep,
  timeoutMs: number,
): Promise<ProbeFinding<T>> =>
  findingOf(step, context.signal, timeoutMs, ['result'], (signal) =>
    probe({ key: context.key, signal }),
  ) as Promise<ProbeFinding<T>>;

/**
 * Asks the probe of `onAbandoned`, for so long.
 *
 * @throws ProbeFailedError when it throws, is too slow, or finds what is no finding
 */
export const abandonedFinding = (
  probe: AbandonedProbe,
  run: AbandonedRun,
  timeoutMs: number,
): Promise<AbandonedFinding> =>
  findingOf(undefined, run.signal, timeoutMs, ['result', 'response'], (signal) =>
    probe({ attempt: run.attempt, keyFor: (name) => run.keyFor(name), signal }),
  ) as Promise<AbandonedFinding>;

async function findingOf(
  step: string | undefined,
  lost: AbortSignal,
  timeoutMs: number,
  answers: readonly string[],
  probe: (signal: AbortSignal) => unknown,
): Promise<unknown> {
  const timeOut = new AbortController();
  const timer = setTimeout(
    () => timeOut.abort(new Error(`the probe took longer than ${timeoutMs} ms (probeTimeoutMs)`)),
    timeoutMs,
  );
  const signal = anySignal(lost, timeOut.signal);
  try {
    const asked = (async () => await probe(signal))();
    const finding = await untilAborted(asked, signal);
    const isAnswer =
      typeof finding === 'object' && finding !== null && answers.some((answer) => answer in finding);
    if (finding === 'run' || finding === 'hold' || isAnswer) return finding;
    throw new TypeError(
      `a probe returns 'run', 'hold' or { ${answers.join(' } or { ')} }, and this one returned ${describe(finding)}`,
    );
  } catch (cause) {
    throw new ProbeFailedError(step, { cause });
  } finally {
    clearTimeout(timer);
  }
}
