import type { Deadline } from '../runtime/deadline.js';
import type { KeySpace } from '../scripting/key-space.js';
import { defineScript, type Script } from '../scripting/script.js';
import type { PipelinedCommand, Run } from './pipelined-command.js';

/**
 * The answer to a batch when a later one of its lane was applied: it is an old copy, and nothing
 * was done.
 */
export const STALE = 'STALE';

/** The answer to a run whose own time limit had passed, though not that of its batch. */
export const LATE = 'late';

const KEYS = ['state', '...touched'] as const;
const ARGS = ['notAfterMs', 'sequence', 'stateTtlMs', '...runs'] as const;

/** A script that applies a batch with the effect of once. */
export type BatchScript = Script<typeof KEYS, typeof ARGS, string>;

/**
 * Defines the script of a batch. Its text recognises a copy by the sequence number of its lane and
 * answers it. The rest, `lua`, must
 *
 * - do nothing past the time limit in ARGV[1], and return TOO_LATE,
 * - judge everything before its first write,
 * - where ARGV[3] is not '', SET KEYS[1] to `ARGV[2] .. '|' .. answer` with ARGV[3] as its time to
 *   live, before the other writes. A refusal of the whole batch is kept too, or another copy of it
 *   could be applied after it was reported as not applied.
 */
export const defineBatchScript = ({
  name,
  header,
  lua,
}: {
  readonly name: string;
  /** Lua comments on the script's keys, arguments and answer. */
  readonly header: string;
  readonly lua: string;
}): BatchScript =>
  defineScript({
    name,
    keys: KEYS,
    args: ARGS,
    reply: String,
    lua: `
-- KEYS[1]  state: of the lane, "<sequence>|<answer>" of its last batch
-- ARGV[1]  notAfterMs: time limit of the batch, milliseconds of Redis's clock
-- ARGV[2]  sequence: of the batch, an integer below 2^53, growing in each lane
-- ARGV[3]  stateTtlMs: how long the state is kept, or '' for a batch that is sent once and not remembered
${header.trim()}
local state = ARGV[3] ~= '' and redis.call('GET', KEYS[1])
if state then
  local last = string.match(state, '^%d+')
  if last == ARGV[2] then return string.sub(state, #last + 2) end
  if #last > #ARGV[2] or (#last == #ARGV[2] and last > ARGV[2]) then return '${STALE}' end
end
${lua.trim()}
`,
  });

/** Commands that travel together. */
export interface Batch<Command extends PipelinedCommand> {
  readonly commands: readonly Command[];
  /** The deadline of the command that may take longest. */
  readonly deadline: Deadline;
}

/** The form in which the commands of one feature travel. */
export interface BatchProtocol<
  Command extends PipelinedCommand,
  Made extends Batch<Command> = Batch<Command>,
> {
  readonly script: BatchScript;
  readonly maxBatchSize: number;
  /**
   * Returns how much of `maxBatchSize` a command takes. One that takes more travels alone. Default:
   * 1.
   */
  sizeOf?(command: Command): number;
  /** Names a command for errors: `An operation on a counter`. */
  readonly commandName: string;
  /** @param commands at least one */
  batchOf(commands: readonly Command[]): Made;
  /**
   * Returns the keys and the runs for the script.
   * @param id no other batch of any process has it
   */
  encode(batch: Made, keys: KeySpace, id: string): { readonly touched: string[]; readonly runs: string[] };
  /**
   * Tells the script's answer to each run.
   * @throws OutcomeUnknownError when there is not one for each; no caller got any
   */
  eachAnswer(batch: Made, answer: string, tell: (run: Run<Command>, answer: string) => void): void;
  /** Tells that a run was not done yet, and is to be sent again. */
  isPartial(answer: string): boolean;
}
