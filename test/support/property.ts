import * as fc from 'fast-check';
import { relative } from 'node:path';

export * as fc from 'fast-check';

const seed = process.env['PROPERTY_SEED'];
const path = process.env['PROPERTY_PATH'];

// A property that fails tells the command that repeats it.
const report = <Ts>(run: fc.RunDetails<Ts>): void => {
  if (!run.failed) return;
  throw new Error(`${fc.defaultReportMessage(run)}\n\nagain: ${commandFor(run)}`, {
    cause: run.errorInstance,
  });
};

fc.configureGlobal({
  reporter: report,
  // A failure is told after this time at the latest, with the smallest case found until then.
  interruptAfterTimeLimit: 100_000,
  markInterruptAsFailure: true,
  ...(seed !== undefined && { seed: Number(seed) }),
  ...(path !== undefined && { path }),
});

/**
 * The path leads straight to the smallest counterexample. Commands have a path of their own, so
 * such a run is repeated as it was.
 */
function commandFor<Ts>(run: fc.RunDetails<Ts>): string {
  const { testPath = '', currentTestName = '' } = expect.getState();
  const title = currentTestName.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`).replaceAll("'", '.');
  const hasPath = run.counterexamplePath !== null && !fc.stringify(run.counterexample).includes('replayPath');
  const from = hasPath ? ` PROPERTY_PATH=${run.counterexamplePath}` : '';
  return `PROPERTY_SEED=${run.seed}${from} npm test -- ${relative('', testPath)} -t '${title}'`;
}
