import type { INestApplicationContext } from '@nestjs/common';
import type { Cluster, Redis } from 'ioredis';
import { ScriptRunner } from '../../../lib/scripting/script-runner.js';

/**
 * Returns the leftovers of transfers across slots: decisions with their remaining time to live (-1:
 * for ever), and other keys of the library except operations' markers.
 */
export async function left({
  client,
}: {
  client: Redis | Cluster;
}): Promise<{ decisions: { key: string; ttlMs: number }[]; others: string[] }> {
  const nodes = client.isCluster ? (client as Cluster).nodes('master') : [client as Redis];
  const keys = (await Promise.all(nodes.map((node) => node.keys('atomic:*')))).flat().toSorted();
  const isDecision = (key: string): boolean => key.startsWith('atomic:transfer:');
  const decisions = keys.filter(isDecision).map(async (key) => ({ key, ttlMs: await client.pttl(key) }));
  return {
    decisions: await Promise.all(decisions),
    others: keys.filter((key) => !isDecision(key) && !key.startsWith('atomic:operation:')),
  };
}

/** The steps of a transfer across slots, in their order. */
export const STEPS = ['begin', 'decide', 'close', 'expire-decision', 'forget'] as const;
export type Step = (typeof STEPS)[number] | 'read';

/** Replaces a step: `run` executes it. */
export type StepHook = (
  step: Step,
  run: () => Promise<unknown>,
  script: { readonly keys: Record<string, string>; readonly args: Record<string, unknown> },
) => unknown;

/**
 * Puts `hook` around each script by which an application makes the steps of transfers across slots.
 */
export function hookSteps(app: INestApplicationContext, hook: StepHook): void {
  const runner = app.get(ScriptRunner);
  const run = runner.run.bind(runner) as (...args: unknown[]) => Promise<unknown>;
  runner.run = (async (...all: [{ name: string }, Record<string, string>, Record<string, unknown>]) => {
    const step = all[0].name.replace('transfers.', '') as Step;
    if (step !== 'read' && !(STEPS as readonly string[]).includes(step)) return await run(...all);
    return await hook(step, () => run(...all), { keys: all[1], args: all[2] });
  }) as unknown as ScriptRunner['run'];
}

/** Never settles. */
export const never = new Promise<never>(() => undefined);
