import { OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { Batch, BatchProtocol } from '../pipelines/batch-protocol.js';
import { sharesTime, type Run } from '../pipelines/pipelined-command.js';
import type { KeySpace } from '../scripting/key-space.js';
import { applyScript } from './apply.script.js';
import { areEqual, UNDOABLE, type CounterCommand } from './counter-command.js';
import { keysOf } from './counter-keys.js';
import type { CounterModuleOptions } from './counter.options.js';
import { CounterState } from './lua-counter.js';

type CounterRun = Run<CounterCommand>;

/** Operations that travel together. */
export interface CounterBatch extends Batch<CounterCommand> {
  /** In the order of the script's arguments: by counter, and of each counter in runs. */
  readonly runsOf: ReadonlyMap<string, readonly CounterRun[]>;
}

/** The form in which operations on counters travel. */
export class CounterBatches implements BatchProtocol<CounterCommand, CounterBatch> {
  readonly script = applyScript;
  readonly commandName = 'An operation on a counter';
  readonly maxBatchSize: number;
  private readonly undoWindowMs: number;

  constructor({ maxBatchSize, undoWindowMs }: Required<CounterModuleOptions>) {
    this.maxBatchSize = maxBatchSize;
    this.undoWindowMs = undoWindowMs;
  }

  batchOf(operations: readonly CounterCommand[]): CounterBatch {
    return batchOf(operations);
  }

  encode(batch: CounterBatch, keys: KeySpace, id: string): { touched: string[]; runs: string[] } {
    return {
      touched: keysOf(keys, [...batch.runsOf.keys()]),
      runs: argumentsOf(batch, id, this.undoWindowMs),
    };
  }

  eachAnswer(batch: CounterBatch, answer: string, tell: (run: CounterRun, answer: string) => void): void {
    eachAnswer(batch, answer, tell);
  }

  isPartial(answer: string): boolean {
    return answer === CounterState.More;
  }
}

function batchOf(operations: readonly CounterCommand[]): CounterBatch {
  const runsOf = new Map<string, CounterRun[]>();
  let { deadline } = operations[0]!;
  let run: CounterRun | undefined;
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
  return { commands: operations, runsOf, deadline };
}

const joins = (first: CounterCommand, operation: CounterCommand): boolean =>
  sharesTime(first, operation) && areEqual(first.change, operation.change);

/**
 * Returns the script's argument for each counter.
 * @param newLife the beginning of the ids of lives, one for each run that can be undone
 */
function argumentsOf({ runsOf, deadline }: CounterBatch, newLife: string, lifeTtlMs: number): string[] {
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

function eachAnswer(
  { runsOf }: CounterBatch,
  answer: string,
  tell: (run: CounterRun, answer: string) => void,
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
