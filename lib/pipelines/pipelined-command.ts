import type { NotReplicatedError } from '../atomic-redis.errors.js';
import type { Deadline } from '../runtime/deadline.js';

/** The call that waits for a command. */
export interface Caller<Result = unknown> {
  /**
   * Makes the call's result of the script's answer. Throws a refusal.
   * @param place of the command in its run, from 0
   */
  toResult(answer: string, place: number): Result;
  /** Tells whether a result that replicas did not have in time is of a change at all. */
  isChange(result: Result): boolean;
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/** A command that travels in a batch with others, and waits for its answer. */
export interface PipelinedCommand {
  /**
   * The key that it changes; of several keys their names in one text. Commands of one key are
   * answered in their order.
   */
  readonly key: string;
  readonly deadline: Deadline;
  readonly caller: Caller;
  state: 'queued' | 'sent' | 'settled';
  /**
   * Travels with commands of the same key only: Redis refused a batch that it was in because of one
   * of the keys.
   */
  isAlone: boolean;
}

/** Equal commands, one after the other, which travel as one with their number. */
export type Run<Command extends PipelinedCommand> = [first: Command, ...others: Command[]];

/**
 * The time limit of a run is that of its first command. A command that joins it may have some more
 * time, so it may be judged late this much too early, at most, and never too late.
 */
const SAME_TIME_MS = 10;

/** Tells whether a command has the time limit of a run that begins with `first`. */
export function sharesTime(first: PipelinedCommand, next: PipelinedCommand): boolean {
  const laterByMs = next.deadline.at - first.deadline.at;
  return laterByMs >= 0 && laterByMs <= SAME_TIME_MS;
}

/** Tells the caller of a command what the script answered. */
export function settle(
  command: PipelinedCommand,
  answer: string,
  place: number,
  unreplicated: NotReplicatedError | undefined,
): void {
  const { caller } = command;
  command.state = 'settled';
  try {
    const result = caller.toResult(answer, place);
    if (unreplicated && caller.isChange(result)) caller.reject(unreplicated.withResult(result));
    else caller.resolve(result);
  } catch (error) {
    caller.reject(error);
  }
}

export function fail(commands: readonly PipelinedCommand[], error: unknown): void {
  for (const command of commands) {
    command.state = 'settled';
    command.caller.reject(error);
  }
}
