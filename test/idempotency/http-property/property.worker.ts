import 'reflect-metadata';
import * as fc from 'fast-check';
import { recordOperation } from '../../histories/recorder.js';
import { worker } from '../../support/worker.js';
import { startPropertyApp, type Platform } from './app.js';
import { anyCase, type Case } from './cases.js';
import { judge, judgeTwins } from './property.js';
import { simpler } from './simplify.js';

export interface PropertyJob {
  readonly platform: Platform;
  readonly url: string;
  readonly seed: number;
  readonly cases: number;
  /** Number of concurrent cases. */
  readonly abreast: number;
  /** Failing cases after which it stops. */
  readonly enough: number;
  /** Compares two applications without the decorator, which checks the harness itself. */
  readonly twins?: boolean;
  /** Instead of random ones. */
  readonly given?: readonly Case[];
}

export interface PropertyFailure {
  readonly plan: Case;
  readonly problems: readonly string[];
}

export interface PropertyResult {
  readonly cases: number;
  /** Number of failures; `failures` has one of each kind, as simple as possible. */
  readonly failed: number;
  readonly failures: readonly PropertyFailure[];
  /** Unhandled rejections and exceptions. */
  readonly stray: readonly string[];
}

/**
 * Performs random cases on one platform in a process of its own, so that no error of it goes
 * unheard.
 */
worker<PropertyJob>(async ({ data }): Promise<PropertyResult> => {
  const judgeOne = data.twins ? judgeTwins : judge;
  const stray: string[] = [];
  const note = (error: unknown) =>
    void stray.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
  process.on('unhandledRejection', note);
  process.on('uncaughtException', note);
  const [app, twin] = await Promise.all([
    startPropertyApp(data.platform, data.url, !data.twins),
    startPropertyApp(data.platform, data.url, false),
  ]);
  try {
    return { ...(await perform(data)), stray };
  } finally {
    await Promise.all([app.close(), twin.close()]);
  }

  async function perform({
    seed,
    cases,
    abreast,
    enough,
    given,
  }: PropertyJob): Promise<Omit<PropertyResult, 'stray'>> {
    const plans = given ?? fc.sample(anyCase, { seed, numRuns: cases });
    const failures: PropertyFailure[] = [];
    let index = 0;
    const lane = async () => {
      while (index < plans.length && failures.length < enough) {
        const plan = plans[index++]!;
        const problems = await recordOperation({ name: 'case', args: plan }, () =>
          judgeOne({ app, twin }, plan),
        );
        if (problems.length > 0) failures.push({ plan, problems });
      }
    };
    await Promise.all(Array.from({ length: abreast }, lane));
    const shrunk: PropertyFailure[] = [];
    const until = performance.now() + SHRINK_MS;
    for (const failure of failures) {
      // One of a kind is enough.
      const kinds = failure.problems.map(kindOf);
      if (!shrunk.some(({ problems }) => kinds.every((kind) => problems.map(kindOf).includes(kind))))
        shrunk.push(await shrink(failure, until));
    }
    return { cases: index, failed: failures.length, failures: shrunk };
  }

  /** Takes away what the failure does not need. */
  async function shrink(failure: PropertyFailure, until: number): Promise<PropertyFailure> {
    const kind = kindOf(failure.problems[0]!);
    let best = failure;
    for (;;) {
      let isSimpler = false;
      for (const plan of simpler(best.plan)) {
        if (performance.now() > until) return best;
        const problems = await judgeOne({ app, twin }, plan);
        if (problems.length === 0 || kindOf(problems[0]!) !== kind) continue;
        best = { plan, problems };
        isSimpler = true;
        break;
      }
      if (!isSimpler) return best;
    }
  }
});

/** Total time for simplifying failing cases. */
const SHRINK_MS = 30_000;

/** The common text of two failures of one kind. */
const kindOf = (problem: string): string => problem.replace(/\[HTTP.*|\d+|".*?"/g, '').slice(0, 120);
