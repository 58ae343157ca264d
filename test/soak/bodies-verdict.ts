import type { ChainReport } from './random-body.js';

/** The content of one key in Redis. */
export interface Chain {
  readonly key: string;
  readonly last: string;
  /** Each is the token before, `>`, and the token. */
  readonly links: readonly string[];
}

export interface BodiesVerdict {
  readonly transactions: number;
  readonly applied: number;
  readonly notApplied: number;
  readonly unknown: number;
  readonly errors: Readonly<Record<string, number>>;
  /** Links that do not begin where the one before ends: an update was lost. */
  readonly broken: number;
  /** Missing links of transactions that were reported as applied. */
  readonly missing: number;
  readonly doubled: number;
  /**
   * Existing links of attempts and transactions that were reported as not applied, or that failed
   * after they had joined.
   */
  readonly stray: number;
  readonly examples: readonly string[];
  /** Why outcomes are unknown, one line for each. */
  readonly unknowns: readonly string[];
}

/** Compares the chains with the callers' answers. */
export function judgeBodies(reports: readonly ChainReport[], chains: readonly Chain[]): BodiesVerdict {
  const examples: string[] = [];
  const found = new Map<string, number>();
  let broken = 0;
  for (const { key, last, links } of chains) {
    let before = '';
    for (const link of links) {
      const [from, to] = link.split('>');
      if (from !== before || to === undefined) {
        broken++;
        examples.push(`${key}: ${link} stands behind ${before}`);
      }
      before = to ?? before;
      found.set(before, (found.get(before) ?? 0) + 1);
    }
    if (before === last) continue;
    broken++;
    examples.push(`${key}: the last is ${last}, and its chain ends in ${before}`);
  }
  const required = new Set<string>();
  const possible = new Set<string>();
  const errors: Record<string, number> = {};
  const told = { applied: 0, 'not-applied': 0, unknown: 0 };
  for (const report of reports) {
    told[report.told]++;
    if (report.error !== undefined) errors[report.error] = (errors[report.error] ?? 0) + 1;
    const tokens = (report.told === 'applied' ? report.attempts.slice(-1) : report.attempts).flat();
    if (report.told === 'applied') for (const { token } of tokens) required.add(token);
    if (report.told === 'unknown') for (const { token } of tokens) possible.add(token);
  }
  const missing = [...required].filter((token) => !found.has(token));
  const stray = [...found.keys()].filter((token) => !required.has(token) && !possible.has(token));
  const doubled = [...found].filter(([, times]) => times > 1);
  return {
    transactions: reports.length,
    applied: told.applied,
    notApplied: told['not-applied'],
    unknown: told.unknown,
    unknowns: reports.flatMap(({ details }) => details ?? []),
    errors,
    broken,
    missing: missing.length,
    doubled: doubled.length,
    stray: stray.length,
    examples: [
      ...examples,
      ...missing.map((token) => `${token} was told as applied, and is not there`),
      ...stray.map((token) => `${token} is there, and was not told as applied`),
    ].slice(0, 10),
  };
}

export const areBodiesRight = ({ broken, missing, doubled, stray }: BodiesVerdict): boolean =>
  broken + missing + doubled + stray === 0;
