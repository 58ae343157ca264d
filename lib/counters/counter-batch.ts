import { OutcomeUnknownError, type NotReplicatedError } from '../atomic-redis.errors.js';
import type { Deadline } from '../redis/deadline.js';

/** What the script is told of an operation, beside its counter. */
export interface Change {
  readonly kind: 'add' | 'undo' | 'reset';
  readonly amount: number | bigint | '';
  readonly min: number | bigint | '';
  readonly max: number | bigint | '';
  readonly ttlMs: number | '';
  readonly detail: string;
  /** To undo in. */
  readonly life: string;
}

/** An operation on one counter that waits for its answer. */
export interface Operation extends Change {
  readonly key: string;
  readonly deadline: Deadline;
  state: 'queued' | 'sent' | 'settled';
  /** Sent with no other counter: a batch that it was in was refused for the sake of one of its keys. */
  alone: boolean;
  /** @param place in its run, from 0 */
  readonly answer: (answer: string, place: number, unreplicated: NotReplicatedError | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Equal operations on one counter, one after the other, which travel as one with their number. */
interface Run {
  readonly first: Operation;
  readonly operations: Operation[];
}

/**
 * The own time limit of a run is that of its first operation. What joins it may have some more time; so it may be judged late this much too early, at most, and
 * never too late.
 */
const SAME_TIME_MS = 10;

/** What joins a run must be answered from the same answer. */
function joins({ first }: Run, operation: Operation): boolean {
  return (
    first.kind === 'add' &&
    operation.kind === 'add' &&
    first.amount === operation.amount &&
    first.min === operation.min &&
    first.max === operation.max &&
    first.ttlMs === operation.ttlMs &&
    first.detail === operation.detail &&
    operation.deadline.at >= first.deadline.at &&
    operation.deadline.at <= first.deadline.at + SAME_TIME_MS
  );
}

/** Operations that travel together, as the script takes them: by counter, and of each counter in runs. */
export class CounterBatch {
  private readonly runs = new Map<string, Run[]>();
  /** Of the one that may take longest. */
  readonly deadline: Deadline;

  constructor(readonly operations: readonly Operation[]) {
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
        const { kind, amount, min, max, ttlMs, detail, deadline } = first;
        // Rounded up, so that none takes effect after its caller gave up, whoever shares its batch.
        const earlierByMs = Math.ceil(this.deadline.at - deadline.at);
        const lifeFields = detail.includes('u') ? `${life}.${lives++},${lifeTtlMs}` : `${first.life},`;
        const separator = text === '' ? '' : ';';
        text += `${separator}${operations.length},${earlierByMs},${kind},${amount},${min},${max},${ttlMs},${detail},${lifeFields}`;
      }
      texts.push(text);
    }
    return texts;
  }

  /**
   * Tells the script's answer to each run.
   * @throws OutcomeUnknownError when there is not one for each
   */
  answered(answer: string, toRun: (operations: readonly Operation[], answer: string) => void): void {
    const answers = answer.split(',');
    const runs = [...this.runs.values()].flat();
    if (answers.length !== runs.length) {
      throw new OutcomeUnknownError(
        `Redis gave ${answers.length} answers to ${runs.length} runs of operations on counters`,
      );
    }
    runs.forEach(({ operations }, i) => toRun(operations, answers[i]!));
  }

  private begin(operation: Operation): Run {
    const run = { first: operation, operations: [operation] };
    const runs = this.runs.get(operation.key);
    if (runs) runs.push(run);
    else this.runs.set(operation.key, [run]);
    return run;
  }
}
