import type { RedisConnection } from '../connection/redis-connection.js';
import type { GroupCommit } from './group-commit.js';
import { handled, handledAfter } from './handled.js';
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
    super(connection, scope, attempt, undefined);
  }

  protected override ask(name: string, args: readonly unknown[]): Promise<unknown> {
    const answer = this.group.answer(name, args);
    return answer === undefined ? this.giveUp() : Promise.resolve(answer);
  }

  protected override protect(): Promise<never> {
    return this.giveUp();
  }

  private giveUp(): Promise<never> {
    this.mustLead = true;
    const again = Promise.reject(new Error('The attempt runs again, on a connection of its own'));
    return handledAfter(handled(again));
  }
}
