import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nowUs, parseHistory, type BeginLine, type EndLine, type Operation } from './history.js';

/** Names the folder to the processes that a run starts; without it nothing is recorded. */
const FOLDER = 'ATOMIC_REDIS_HISTORY';

export type Asked = Pick<BeginLine, 'name' | 'model' | 'key' | 'args'>;

/** The end of an operation, with its `args` if only the end reveals them. */
export type Told = Pick<EndLine, 'outcome' | 'result' | 'error' | 'args'>;

let file: { readonly path: string; readonly fd: number } | undefined;
let count = 0;

/** Each line is written before the next step: kill -9 loses none. */
function write(line: BeginLine | EndLine): void {
  const folder = process.env[FOLDER];
  if (folder === undefined) return;
  const path = join(folder, `${process.pid}.jsonl`);
  if (file?.path !== path) {
    if (file) closeSync(file.fd);
    file = { path, fd: openSync(path, 'a') };
  }
  writeSync(file.fd, `${JSON.stringify(line)}\n`);
}

/** Notes that an operation begins. @returns notes its end */
export function beginOperation(asked: Asked): (told: Told) => void {
  const id = `${process.pid}-${(count++).toString(36)}`;
  write({ begin: id, process: `${process.pid}`, ...asked, atUs: nowUs() });
  return (told) => write({ end: id, ...told, atUs: nowUs() });
}

/**
 * Records a call. Its error says what became of it; one that does not is of unknown outcome, unless
 * it is the caller's own, and so is a write that may not be on the replicas asked for.
 */
export async function recordOperation<T>(
  asked: Asked,
  call: () => Promise<T>,
  { resultOf = (value) => value, isOwn = () => false }: RecordOptions<T> = {},
): Promise<T> {
  const end = beginOperation(asked);
  try {
    const value = await call();
    end({ outcome: 'ok', result: resultOf(value) });
    return value;
  } catch (error) {
    end(isOwn(error) ? { outcome: 'not-applied', error: 'its own' } : toldBy(error));
    throw error;
  }
}

export interface RecordOptions<T> {
  /** Reduces the result to the recorded part. @default all of it */
  readonly resultOf?: (value: T) => unknown;
  /** True for an error that the call itself has thrown, so that nothing took effect. */
  readonly isOwn?: (error: unknown) => boolean;
}

function toldBy(thrown: unknown): Told {
  const { outcome, name } = thrown as { outcome?: unknown; name?: string };
  const isKnown = (outcome === 'applied' || outcome === 'not-applied') && name !== 'NotReplicatedError';
  return { outcome: isKnown ? outcome : 'unknown', error: String(name) };
}

/** Records something that has happened, such as the last read of a key. */
export function noteOperation(asked: Asked, result: unknown, startUs: number): void {
  const id = `${process.pid}-${(count++).toString(36)}`;
  write({ begin: id, process: `${process.pid}`, ...asked, atUs: startUs });
  write({ end: id, outcome: 'ok', result, atUs: nowUs() });
}

/** A run whose processes record. */
export interface Recording {
  readonly folder: string;
  read(): Operation[];
}

const recordings: Recording[] = [];

/** Has this process, and those that it starts from now on, record into a new temporary folder. */
export function startRecording(): Recording {
  const folder = mkdtempSync(join(tmpdir(), 'history-'));
  process.env[FOLDER] = folder;
  const recording = { folder, read: () => parseHistory(filesOf(folder)) };
  recordings.push(recording);
  return recording;
}

/** Returns the recordings that hold anything and were not removed. */
export const keptRecordings = (): readonly Recording[] =>
  recordings.filter(({ folder }) => readdirSync(folder).length > 0);

export function removeRecordings(): void {
  delete process.env[FOLDER];
  for (const { folder } of recordings.splice(0)) rmSync(folder, { recursive: true, force: true });
}

const filesOf = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.jsonl'))
    .map((name) => readFileSync(join(folder, name), 'utf8'));
