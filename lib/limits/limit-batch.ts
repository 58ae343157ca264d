import { OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { Deadline } from '../runtime/deadline.js';
import type { Batch, BatchProtocol, BatchScript } from '../pipelines/batch-protocol.js';
import { sharesTime, type PipelinedCommand, type Run } from '../pipelines/pipelined-command.js';
import type { KeySpace } from '../scripting/key-space.js';
import { holdsOf } from './limit-keys.js';
import type { CheckedLimit } from './limit.js';
import { MORE } from './lua-limit.js';
import { takeScript } from './take.script.js';

/** A call of `take` that waits for its answer. */
export interface LimitCommand extends PipelinedCommand {
  readonly limits: readonly CheckedLimit[];
  /** The key in Redis of each limit. */
  readonly states: readonly string[];
  /** The limits, as arguments of the script. Equal texts on equal keys are equal calls. */
  readonly text: string;
  /** True once the script has asked for the reservations, of which some have lapsed. */
  sweeps: boolean;
}

/** Calls that travel together. */
export interface LimitBatch extends Batch<LimitCommand> {
  readonly runs: readonly Run<LimitCommand>[];
}

/** Describes a limit for the script. */
export const specificationOf = ({ specification }: CheckedLimit): string => specification;

/** The form in which calls of `take` travel. */
export class LimitBatches implements BatchProtocol<LimitCommand, LimitBatch> {
  readonly commandName = 'A take from a limit';

  constructor(
    readonly maxBatchSize: number,
    /** The script; in tests one with another clock. */
    readonly script: BatchScript = takeScript,
  ) {}

  batchOf(commands: readonly LimitCommand[]): LimitBatch {
    const [first] = commands as Run<LimitCommand>;
    if (commands.length === 1) return { commands, runs: [[first]], deadline: first.deadline };
    const runs: Run<LimitCommand>[] = [];
    // The last run of each limit. An equal call that comes behind another one on any of its limits
    // begins a run of its own, so that their order stays.
    const lastOf = new Map<string, Run<LimitCommand>>();
    let { deadline } = first;
    let run: Run<LimitCommand> | undefined;
    for (const command of commands) {
      if (command.deadline.at > deadline.at) ({ deadline } = command);
      if (run?.[0].key !== command.key) run = lastOfAll(command, lastOf);
      if (run && run[0].text === command.text && areAlike(run[0], command)) {
        run.push(command);
        continue;
      }
      run = [command];
      runs.push(run);
      for (const state of command.states) lastOf.set(state, run);
    }
    return { commands, runs, deadline };
  }

  sizeOf({ states }: LimitCommand): number {
    return states.length;
  }

  encode({ runs, deadline }: LimitBatch, keys: KeySpace): { touched: string[]; runs: string[] } {
    const touched: string[] = [];
    const texts: string[] = [];
    for (const run of runs) {
      const [first] = run;
      const { limits, states, sweeps } = first;
      for (let i = 0; i < states.length; i++) {
        touched.push(states[i]!);
        if (sweeps) touched.push(holdsOf(keys, limits[i]!));
      }
      texts.push(`${run.length},${earlierBy(first.deadline, deadline)}${sweeps ? '+' : ''}${first.text}`);
    }
    return { touched, runs: texts };
  }

  eachAnswer(
    { runs }: LimitBatch,
    answer: string,
    tell: (run: Run<LimitCommand>, answer: string) => void,
  ): void {
    // Splitting costs more than looking.
    const answers = answer.includes(';') ? answer.split(';') : [answer];
    if (answers.length !== runs.length)
      throw new OutcomeUnknownError(
        `Redis gave ${answers.length} answers to ${runs.length} runs of takes from limits`,
      );
    for (const [i, run] of runs.entries()) {
      if (answers[i] === MORE) for (const command of run) command.sweeps = true;
      tell(run, answers[i]!);
    }
  }

  isPartial(answer: string): boolean {
    return answer === MORE;
  }
}

/** Returns the run that is the last one of each limit of the command, and of no others. */
function lastOfAll(
  { key, states }: LimitCommand,
  lastOf: ReadonlyMap<string, Run<LimitCommand>>,
): Run<LimitCommand> | undefined {
  const run = lastOf.get(states[0]!);
  if (run?.[0].key !== key) return undefined;
  for (let i = 1; i < states.length; i++) if (lastOf.get(states[i]!) !== run) return undefined;
  return run;
}

const areAlike = (first: LimitCommand, next: LimitCommand): boolean =>
  first.sweeps === next.sweeps && sharesTime(first, next);

/** Rounded up, so that none takes effect after its caller gave up, even in a shared batch. */
const earlierBy = (own: Deadline, latest: Deadline): number => Math.ceil(latest.at - own.at);
