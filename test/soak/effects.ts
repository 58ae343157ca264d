/**
 * The effects of the runs. They share one hash tag, so the same runs could be committed on a
 * Cluster.
 */
export const EFFECTS_KEY = '{effects}';
export const watchedKey = (key: string): string => `{effects}:of:${key}`;

/** An entry of the list of effects: a run of this key came to this answer. */
export interface Effect {
  readonly key: string;
  readonly answer: string;
}

export const formatEffect = (effect: Effect): string => JSON.stringify(effect);
export const parseEffect = (line: string): Effect => JSON.parse(line) as Effect;

/** All answers that the clients of one key got. */
export interface KeyReport {
  readonly key: string;
  /** True if its runs have an effect and are committed with it. */
  readonly commits: boolean;
  readonly answers: readonly string[];
  /** Clients that got no answer. */
  readonly unanswered: number;
}

export interface IdempotencyVerdict {
  readonly keys: number;
  readonly answers: number;
  /** Keys without an effect. */
  readonly missing: number;
  /** Keys with more than one. */
  readonly doubled: number;
  /** Keys whose clients got another answer than the effect's, or different ones. */
  readonly contradicted: number;
  /** Clients that got no answer. */
  readonly unanswered: number;
  readonly examples: readonly string[];
}

const EXAMPLES = 5;

/** Compares the clients' answers with the state of Redis. */
export function judgeEffects(reports: readonly KeyReport[], lines: readonly string[]): IdempotencyVerdict {
  const effects = new Map<string, string[]>();
  for (const { key, answer } of lines.map(parseEffect))
    effects.set(key, [...(effects.get(key) ?? []), answer]);
  const of = ({ key }: KeyReport): string[] => effects.get(key) ?? [];
  const missing = reports.filter((report) => report.commits && of(report).length === 0);
  const doubled = reports.filter((report) => of(report).length > 1);
  const contradicted = reports.filter((report) => {
    const [expected] = report.commits ? of(report) : report.answers;
    return report.answers.some((answer) => answer !== expected);
  });
  const show = (what: string) => (report: KeyReport) =>
    `${what}: ${report.key}, effects ${JSON.stringify(of(report))}, answers ${JSON.stringify([...new Set(report.answers)])}`;
  return {
    keys: reports.length,
    answers: reports.reduce((sum, { answers }) => sum + answers.length, 0),
    missing: missing.length,
    doubled: doubled.length,
    contradicted: contradicted.length,
    unanswered: reports.reduce((sum, { unanswered }) => sum + unanswered, 0),
    examples: [
      ...missing.map(show('missing')),
      ...doubled.map(show('doubled')),
      ...contradicted.map(show('contradicted')),
    ].slice(0, EXAMPLES),
  };
}

/** True if every effect exists once and every client got its answer. */
export function isRight({
  missing,
  doubled,
  contradicted,
  unanswered,
  leftovers,
}: IdempotencyVerdict & { readonly leftovers: number }): boolean {
  return [missing, doubled, contradicted, unanswered, leftovers].every((n) => n === 0);
}
