import { TransactionMisuseError } from '../atomic-redis.errors.js';
import type { OwnedCommand } from './open-transaction.js';
import type { QueuedWrite } from './transaction-commands.js';

/** What EXEC answered, one value for each queued write, in their order. */
export interface ExecReplies extends ReadonlyArray<unknown> {
  /** The reply to a write, by what `tx.write` returned for it, with its type. */
  of<Result>(write: QueuedWrite<Result>): Result;
}

/** What a queued write returns: awaiting it is an error at once, since a promise of it could never settle before EXEC. */
export class UnavailableUntilExec {
  constructor(readonly command: OwnedCommand) {}

  // oxlint-disable-next-line no-thenable -- so that awaiting it fails instead of going unnoticed
  then(_: unknown, reject: (error: Error) => void): void {
    reject(
      new TransactionMisuseError(
        `tx.write.${this.command.name} is queued until EXEC, so it can neither be awaited nor returned from an async function; take its reply from onReplies`,
      ),
    );
  }
}

/** What of `all`, the replies to an attempt, answers these commands of it; null where the answer was lost. */
export function repliesTo(
  commands: readonly OwnedCommand[],
  all: readonly unknown[] | null,
): ExecReplies | null {
  if (all === null) return null;
  const of = <Result>(write: QueuedWrite<Result>): Result => {
    if (!(write instanceof UnavailableUntilExec))
      throw new TransactionMisuseError('replies.of takes what tx.write returned');
    return all[write.command.at] as Result;
  };
  return Object.assign(
    commands.map(({ at }) => all[at]),
    { of },
  );
}
