import { describe } from '../../atomic-redis.errors.js';
import { untilAborted } from '../../runtime/deadline.js';
import { ProbeFailedError } from '../idempotency.errors.js';
import type { AbandonedFinding, AbandonedProbe, AbandonedRun } from '../abandoned.options.js';
import { checkSettledResponse } from '../settled-response.js';
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
  findingOf(undefined, run.signal, timeoutMs, ['response', 'result'], (signal) =>
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
    if (finding === 'run' || finding === 'hold') return finding;
    const answer =
      typeof finding === 'object' && finding !== null ? answers.find((one) => one in finding) : undefined;
    if (answer !== undefined) {
      // Read here, so that a getter that throws is a probe that fails.
      const value = (finding as Readonly<Record<string, unknown>>)[answer];
      if (answer === 'response') checkSettledResponse(answer, value);
      return { [answer]: value };
    }
    throw new TypeError(
      `a probe returns 'run', 'hold' or { ${answers.join(' } or { ')} }, and this one returned ${describe(finding)}`,
    );
  } catch (cause) {
    throw new ProbeFailedError(step, { cause });
  } finally {
    clearTimeout(timer);
  }
}
