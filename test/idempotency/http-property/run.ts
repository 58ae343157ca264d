import { join } from 'node:path';
import { startWorker } from '../../support/workers.js';
import type { PropertyJob, PropertyResult } from './property.worker.js';

export type PropertyOptions = Omit<PropertyJob, 'platform'>;

/** Performs cases on one platform, in a process of its own. */
export async function runProperty(
  platform: PropertyJob['platform'],
  options: PropertyOptions,
  timeoutMs: number,
): Promise<PropertyResult> {
  const run = startWorker<PropertyResult>({
    script: join(__dirname, 'property.worker.ts'),
    timeoutMs,
    data: { platform, ...options } satisfies PropertyJob,
  });
  try {
    return await run.result;
  } finally {
    await run.kill();
  }
}

/** The errors in words, or an empty text. */
export function renderProperty(platform: string, { failed, failures, stray }: PropertyResult): string {
  const errors = [...new Set(stray)].map((stack) => stack.split('\n').slice(0, 6).join('\n'));
  return [
    ...(failed > 0 ? [`${platform}: ${failed} cases failed, of these kinds:`] : []),
    ...failures.map(({ plan, problems }) =>
      [...problems.map((problem) => `- ${problem.slice(0, 900)}`), `  ${JSON.stringify(plan)}`].join('\n'),
    ),
    ...(errors.length > 0
      ? [`${platform}: ${stray.length} errors that nobody caught:`, ...errors.slice(0, 5)]
      : []),
  ].join('\n');
}
