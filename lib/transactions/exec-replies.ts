import { IllegalTransactionStateError } from '../atomic-redis.errors.js';
import type { OwnedCommand } from './open-transaction.js';
import type { QueuedWrite } from './transaction-commands.js';

/** The replies of EXEC, one for each queued write, in their order. @inline */
export interface ExecReplies extends ReadonlyArray<unknown> {
  /** The reply to a write, by what `tx.write` returned for it, with its type. */
  of<Result>(write: QueuedWrite<Result>): Result;
}

/**
 * Returned by a queued write. Awaiting it throws at once: a promise of it could never settle before
 * EXEC.
 */
export class UnavailableUntilExec {
  constructor(readonly command: OwnedCommand) {}

  // oxlint-disable-next-line no-thenable -- so that awaiting it fails instead of going unnoticed
  then(_: unknown, reject: (error: Error) => void): void {
    reject(
      new IllegalTransactionStateError(
        `tx.write.${this.command.name} is queued until EXEC, so it can neither be awaited nor returned from an async function; take its reply from onReplies`,
      ),
    );
  }
}

/**
 * Returns the replies to these commands from `all`, the replies to an attempt; null if the reply of
 * EXEC was lost.
 */
export function repliesTo(
  commands: readonly OwnedCommand[],
  all: readonly unknown[] | null,
): ExecReplies | null {
  if (all === null) return null;
  const of = <Result>(write: QueuedWrite<Result>): Result => {
    if (!(write instanceof UnavailableUntilExec))
      throw new IllegalTransactionStateError('replies.of takes a value that tx.write returned');
    return all[write.command.at] as Result;
  };
  return Object.assign(
    commands.flatMap(({ at, isHidden }) => (isHidden ? [] : [all[at]])),
    { of },
  );
}
