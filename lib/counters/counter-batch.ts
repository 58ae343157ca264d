import { OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { Batch, BatchProtocol } from '../pipelines/batch-protocol.js';
import { sharesTime, type Run } from '../pipelines/pipelined-command.js';
import type { KeySpace } from '../scripting/key-space.js';
import { applyScript } from './apply.script.js';
import { areEqual, UNDOABLE, type CounterCommand } from './counter-command.js';
import { keysOf } from './counter-keys.js';
import type { counterDefaults } from './counter.options.js';
import { CounterState } from './lua-counter.js';

type CounterRun = Run<CounterCommand>;

/** Operations that travel together. */
export interface CounterBatch extends Batch<CounterCommand> {
  /** The runs of each counter, in the order of the script's arguments. */
  readonly counters: readonly (readonly CounterRun[])[];
}

/** The form in which operations on counters travel. */
export class CounterBatches implements BatchProtocol<CounterCommand, CounterBatch> {
  readonly script = applyScript;
  readonly commandName = 'An operation on a counter';
  readonly batchOf = batchOf;
  readonly eachAnswer = eachAnswer;
  readonly maxBatchSize: number;
  private readonly undoWindowMs: number;

  constructor({ maxBatchSize, undoWindowMs }: typeof counterDefaults) {
    this.maxBatchSize = maxBatchSize;
    this.undoWindowMs = undoWindowMs;
  }

  encode(batch: CounterBatch, keys: KeySpace, id: string): { touched: string[]; runs: string[] } {
    const counters = batch.counters.map(([run]) => run![0].key);
    return { touched: keysOf(keys, counters), runs: argumentsOf(batch, id, this.undoWindowMs) };
  }

  isPartial(answer: string): boolean {
    return answer === CounterState.More;
  }
}

function batchOf(operations: readonly CounterCommand[]): CounterBatch {
  const [first] = operations as CounterRun;
  if (operations.length === 1)
    return { commands: operations, counters: [[[first]]], deadline: first.deadline };
  const runsOf = new Map<string, CounterRun[]>();
  let { deadline } = first;
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
  return { commands: operations, counters: [...runsOf.values()], deadline };
}

const joins = (first: CounterCommand, operation: CounterCommand): boolean =>
  sharesTime(first, operation) && areEqual(first.change, operation.change);

/**
 * Returns the script's argument for each counter.
 * @param newLife the beginning of the ids of lives, one for each run that can be undone
 */
function argumentsOf({ counters, deadline }: CounterBatch, newLife: string, lifeTtlMs: number): string[] {
  const texts: string[] = [];
  let lives = 0;
  for (const runs of counters) {
    let text = '';
    for (const run of runs) {
      const [first] = run;
      const { kind, amount, min, max, ttlMs, detail } = first.change;
      const bound = amount === '' || Number(amount) === 0 ? '' : amount > 0 ? max : min;
      // Rounded up, so that none takes effect after its caller gave up, even in a shared batch.
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
  { counters }: CounterBatch,
  answer: string,
  tell: (run: CounterRun, answer: string) => void,
): void {
  // Splitting costs more than looking.
  const answers = answer.includes(',') ? answer.split(',') : [answer];
  let expected = 0;
  for (const runs of counters) expected += runs.length;
  if (answers.length !== expected) {
    throw new OutcomeUnknownError(
      `Redis gave ${answers.length} answers to ${expected} runs of operations on counters`,
    );
  }
  let at = 0;
  for (const runs of counters) for (const run of runs) tell(run, answers[at++]!);
}
