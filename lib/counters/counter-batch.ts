import { OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { Deadline } from '../runtime/deadline.js';
import { areEqual, UNDOABLE, type CounterCommand } from './counter-command.js';

/** Equal operations on one counter, one after the other, which travel as one with their number. */
type Run = [first: CounterCommand, ...others: CounterCommand[]];

/** Operations that travel together. */
export interface CounterBatch {
  readonly operations: readonly CounterCommand[];
  /** As the script takes them: by counter, and of each counter in runs. */
  readonly runsOf: ReadonlyMap<string, readonly Run[]>;
  /** Of the operation that may take longest. */
  readonly deadline: Deadline;
}

/**
 * The own time limit of a run is that of its first operation. What joins it may have some more time; so it may be judged late this much too early, at most, and
 * never too late.
 */
const SAME_TIME_MS = 10;

/** @param operations at least one */
export function batchOf(operations: readonly CounterCommand[]): CounterBatch {
  const runsOf = new Map<string, Run[]>();
  let { deadline } = operations[0]!;
  let run: Run | undefined;
  for (const operation of operations) {
    const { key } = operation;
    if (operation.deadline.at > deadline.at) ({ deadline } = operation);
    if (run?.[0].key !== key) run = runsOf.get(key)?.at(-1);
    if (run && joins(run[0], operation)) {
      run.push(operation);
    } else {
      run = [operation];
      const runs = runsOf.get(key);
      if (runs) runs.push(run);
      else runsOf.set(key, [run]);
    }
  }
  return { operations, runsOf, deadline };
}

function joins(first: CounterCommand, operation: CounterCommand): boolean {
  const laterByMs = operation.deadline.at - first.deadline.at;
  return laterByMs >= 0 && laterByMs <= SAME_TIME_MS && areEqual(first.change, operation.change);
}

/** For each counter the script's argument. @param newLife of which an id that was never used before is made for each run that can be undone */
export function argumentsOf(
  { runsOf, deadline }: CounterBatch,
  newLife: string,
  lifeTtlMs: number,
): string[] {
  const texts: string[] = [];
  let lives = 0;
  for (const runs of runsOf.values()) {
    let text = '';
    for (const run of runs) {
      const [first] = run;
      const { kind, amount, min, max, ttlMs, detail } = first.change;
      const bound = amount === '' || Number(amount) === 0 ? '' : amount > 0 ? max : min;
      // Rounded up, so that none takes effect after its caller gave up, whoever shares its batch.
      const earlierByMs = Math.ceil(deadline.at - first.deadline.at);
      const isUndoable = kind === 'add' && detail.includes(UNDOABLE);
      const life = isUndoable ? `${newLife}.${lives++},${lifeTtlMs}` : ',';
      if (text !== '') text += ';';
      text += `${run.length},${earlierByMs},${kind},${amount},${bound},${ttlMs},${detail},${life}`;
    }
    texts.push(text);
  }
  return texts;
}

/**
 * Tells the script's answer to each run.
 * @throws OutcomeUnknownError when there is not one for each; nobody was told any
 */
export function eachAnswer(
  { runsOf }: CounterBatch,
  answer: string,
  tell: (run: readonly CounterCommand[], answer: string) => void,
): void {
  const answers = answer.split(',');
  let expected = 0;
  for (const runs of runsOf.values()) expected += runs.length;
  if (answers.length !== expected) {
    throw new OutcomeUnknownError(
      `Redis gave ${answers.length} answers to ${expected} runs of operations on counters`,
    );
  }
  let at = 0;
  for (const runs of runsOf.values()) for (const run of runs) tell(run, answers[at++]!);
}
