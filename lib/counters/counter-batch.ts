import { OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { Deadline } from '../redis/deadline.js';
import type { CounterOperation } from './counter-operation.js';

/** Equal operations on one counter, one after the other, which travel as one with their number. */
interface Run {
  readonly first: CounterOperation;
  readonly operations: CounterOperation[];
}

/**
 * The own time limit of a run is that of its first operation. What joins it may have some more time; so it may be judged late this much too early, at most, and
 * never too late.
 */
const SAME_TIME_MS = 10;

function joins({ first }: Run, operation: CounterOperation): boolean {
  const laterByMs = operation.deadline.at - first.deadline.at;
  return laterByMs >= 0 && laterByMs <= SAME_TIME_MS && first.equals(operation);
}

/** Operations that travel together, as the script takes them: by counter, and of each counter in runs. */
export class CounterBatch {
  private readonly runs = new Map<string, Run[]>();
  private runCount = 0;
  /** Of the one that may take longest. */
  readonly deadline: Deadline;

  constructor(readonly operations: readonly CounterOperation[]) {
    let latest = operations[0]!.deadline;
    let last: Run | undefined;
    for (const operation of operations) {
      if (operation.deadline.at > latest.at) latest = operation.deadline;
      if (last?.first.key !== operation.key) last = this.runs.get(operation.key)?.at(-1);
      if (last && joins(last, operation)) last.operations.push(operation);
      else last = this.begin(operation);
    }
    this.deadline = latest;
  }

  get counters(): Iterable<string> {
    return this.runs.keys();
  }

  /** How many counters it is about. */
  get size(): number {
    return this.runs.size;
  }

  /** For each counter the script's argument. @param life of which an id that was never used before is made for each run */
  arguments(life: string, lifeTtlMs: number): string[] {
    const texts: string[] = [];
    let lives = 0;
    for (const runs of this.runs.values()) {
      let text = '';
      for (const { first, operations } of runs) {
        const { kind, amount, min, max, ttlMs, detail } = first.change;
        // Rounded up, so that none takes effect after its caller gave up, whoever shares its batch.
        const earlierByMs = Math.ceil(this.deadline.at - first.deadline.at);
        const newLife = first.isUndoable ? `${life}.${lives++},${lifeTtlMs}` : ',';
        if (text !== '') text += ';';
        text += `${operations.length},${earlierByMs},${kind},${amount},${min},${max},${ttlMs},${detail},${newLife}`;
      }
      texts.push(text);
    }
    return texts;
  }

  /**
   * Tells the script's answer to each run.
   * @throws OutcomeUnknownError when there is not one for each
   */
  answered(answer: string, toRun: (operations: readonly CounterOperation[], answer: string) => void): void {
    const answers = answer.split(',');
    if (answers.length !== this.runCount) {
      throw new OutcomeUnknownError(
        `Redis gave ${answers.length} answers to ${this.runCount} runs of operations on counters`,
      );
    }
    let i = 0;
    for (const runs of this.runs.values())
      for (const { operations } of runs) toRun(operations, answers[i++]!);
  }

  private begin(operation: CounterOperation): Run {
    const run = { first: operation, operations: [operation] };
    this.runCount++;
    const runs = this.runs.get(operation.key);
    if (runs) runs.push(run);
    else this.runs.set(operation.key, [run]);
    return run;
  }
}
