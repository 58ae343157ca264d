/**
 * The history of a run: the calls of each process, with their times and answers. Times are
 * microseconds on the monotonic clock that all processes of one machine share.
 */
export interface Operation {
  /** Names this operation; no other of the history has it. */
  readonly id: string;
  readonly process: string;
  /** Names the kind, such as `add` or `transaction`. */
  readonly name: string;
  /** The model of the object that it works on; without one it is recorded and not judged. */
  readonly model?: ModelName;
  /** The key that it works on; a transaction works on those that its arguments name. */
  readonly key?: string;
  readonly args: unknown;
  readonly startUs: number;
  /** Infinity if the operation has no end, because its process was killed. */
  readonly endUs: number;
  readonly outcome: HistoryOutcome;
  /** With outcome `ok` only. */
  readonly result?: unknown;
  /** Name of the error, for people. */
  readonly error?: string;
}

/** The model by which operations are judged. */
export type ModelName = 'register' | 'counter' | 'list-append';

/**
 * - `ok`: it took effect, and this is its result
 * - `applied`: it took effect, and its result is not known
 * - `not-applied`: it takes effect at no time
 * - `unknown`: it takes effect at some time after its start, or never
 */
export type HistoryOutcome = 'ok' | 'applied' | 'not-applied' | 'unknown';

/** A line of a history: an operation begins. */
export interface BeginLine {
  readonly begin: string;
  readonly process: string;
  readonly name: string;
  readonly model?: ModelName;
  readonly key?: string;
  readonly args: unknown;
  readonly atUs: number;
}

/** A line of a history: an operation ends. Where this line is missing, the process was killed. */
export interface EndLine {
  readonly end: string;
  readonly outcome: HistoryOutcome;
  readonly result?: unknown;
  readonly error?: string;
  /** In place of those of the beginning, where it did not know them. */
  readonly args?: unknown;
  readonly atUs: number;
}

/** Microseconds on the clock of histories. */
export const nowUs = (): number => Number(process.hrtime.bigint()) / 1_000;

/**
 * Reads the files of all processes of a run; in which order does not matter. What follows the last
 * line break of a file counts as not written: a killed process did not finish it.
 *
 * @throws Error if a line is no JSON, an end has no beginning, or an id was used twice
 */
export function parseHistory(files: Iterable<string>): Operation[] {
  const begun = new Map<string, BeginLine>();
  const ended = new Map<string, EndLine>();
  for (const parsed of linesOf(files)) {
    const [id, known] = 'begin' in parsed ? [parsed.begin, begun] : [parsed.end, ended];
    if (known.has(id)) throw new Error(`history: ${id} was used twice`);
    (known as Map<string, unknown>).set(id, parsed);
  }
  for (const id of ended.keys()) if (!begun.has(id)) throw new Error(`history: ${id} ends and never began`);
  const operations = [...begun.values()].map((began): Operation => {
    const { begin: id, process, name, model, key, atUs } = began;
    const end = ended.get(id);
    const { outcome, result, error } = end ?? { outcome: 'unknown' as const, error: 'no end' };
    const endUs = end && outcome !== 'unknown' ? end.atUs : Infinity;
    const args = end?.args ?? began.args;
    return { id, process, name, model, key, args, startUs: atUs, endUs, outcome, result, error };
  });
  return operations.toSorted((a, b) => a.startUs - b.startUs);
}

function* linesOf(files: Iterable<string>): Generator<BeginLine | EndLine> {
  for (const file of files)
    for (const line of file.split('\n').slice(0, -1)) yield JSON.parse(line) as BeginLine | EndLine;
}
