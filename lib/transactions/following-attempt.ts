import type { RedisConnection } from '../redis/redis-connection.js';
import type { GroupCommit } from './group-commit.js';
import { TransactionAttempt, type AttemptScope } from './transaction-attempt.js';

/** An attempt on what the group's writes make of its key, to be committed with them. */
export class FollowingAttempt extends TransactionAttempt {
  /** It asked what only Redis can tell, so it has to run again with a turn of its own. */
  mustLead = false;

  constructor(
    private readonly group: GroupCommit,
    connection: RedisConnection,
    scope: AttemptScope,
    attempt: number,
  ) {
    super(connection, scope, attempt);
  }

  protected override async ask(name: string, args: readonly unknown[]): Promise<unknown> {
    return this.group.answer(name, args) ?? this.giveUp();
  }

  protected override async protect(): Promise<void> {
    this.giveUp();
  }

  private giveUp(): never {
    this.mustLead = true;
    throw new Error('The attempt runs again, on a connection of its own');
  }
}
