import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, cpus } from 'node:os';
import { nameOf, type CellResult } from './cell.js';
import { PEERS, versionOf, type Peer } from './peers.js';

type SavedCell = Omit<CellResult, 'peer' | 'fault'>;

/** The results of one run of the command, and what they were made with. */
export interface Saved {
  /** The commit of the repository; followed by "with changes" where the code differed from it. */
  readonly commit: string;
  readonly date: string;
  readonly node: string;
  /** Number and architecture of the processors. */
  readonly machine: string;
  readonly seed: number;
  /** The number of runs of each cell. */
  readonly runs: number;
  readonly minutes: number;
  /** Product and version, by job and id of each peer that was run. */
  readonly servers: Readonly<Record<string, string>>;
  /** The versions of the peers' packages. */
  readonly versions: Readonly<Record<string, string>>;
  readonly cells: Readonly<Record<string, SavedCell>>;
}

export function save(
  results: readonly CellResult[],
  given: {
    seed: number;
    runs: number;
    minutes: number;
    servers: ReadonlyMap<Peer, string>;
    /** As it was when the run began. */
    commit: string;
  },
): Saved {
  const { servers, ...rest } = given;
  return {
    ...rest,
    date: new Date().toISOString().slice(0, 10),
    node: process.version,
    machine: `${cpus().length} × ${arch()}`,
    servers: Object.fromEntries([...servers].map(([{ job, id }, name]) => [`${job}/${id}`, name])),
    versions: Object.fromEntries(
      PEERS.flatMap(({ packages }) => packages).map((name) => [name, versionOf(name)]),
    ),
    cells: Object.fromEntries(
      results.map(({ peer, fault, ...cell }) => [nameOf({ peer, fault }), cell] as const),
    ),
  };
}

/** Reads the results of several runs. */
export const load = (files: readonly string[]): Saved[] =>
  files.map((file) => JSON.parse(readFileSync(file, 'utf8')) as Saved);

export function commitOfNow(): string {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: __dirname, encoding: 'utf8' }).trim();
  try {
    const isChanged = git('status', '--porcelain', '--', '../lib', '.') !== '';
    return `${git('rev-parse', '--short=10', 'HEAD')}${isChanged ? ' with changes' : ''}`;
  } catch {
    return 'unknown';
  }
}
