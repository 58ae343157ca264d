import { readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Models {
  readonly models: readonly { readonly traced: readonly { readonly to: string; readonly seeds: number }[] }[];
}

const { models } = JSON.parse(readFileSync(join(__dirname, '../../spec/models.json'), 'utf8')) as Models;

/**
 * The runs of a model that `npm run models -- --record` has written, step by step.
 *
 * @throws {Error} if there are fewer than spec/models.json says
 */
export function tracesOf(name: string): readonly (readonly string[])[] {
  const text = readFileSync(join(__dirname, `../fixtures/traces/${name}.txt`), 'utf8');
  const traces = text
    .split(/^# seed \d+\n/m)
    .slice(1)
    .map((trace) => trace.split('\n').filter(Boolean));
  const seeds = models.flatMap(({ traced }) => traced).find(({ to }) => to === name)?.seeds;
  if (!seeds || traces.length < seeds || !traces.some((steps) => steps.length > 0))
    throw new Error(`${name}: ${traces.length} traces are too few. Record them anew.`);
  return traces;
}

/** Steps of a model by the form of their line, with its numbers and words. */
export type Steps = readonly (readonly [RegExp, (...fields: string[]) => Promise<unknown>])[];

/** Does each step of a trace; its function compares what Redis has afterwards with the line. */
export async function replay(trace: readonly string[], steps: Steps): Promise<void> {
  for (const [i, line] of trace.entries()) {
    const found = steps.map(([form, act]) => [form.exec(line), act] as const).find(([match]) => match);
    if (!found) throw new Error(`No step is written as: ${line}`);
    try {
      await found[1](...found[0]!.slice(1));
    } catch (error) {
      throw new Error(`At step ${i + 1} of\n${trace.join('\n')}\n${(error as Error).message}`, {
        cause: error,
      });
    }
  }
}
