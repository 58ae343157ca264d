import { ConfigurationError } from '../atomic-redis.errors.js';

/** The method that an operation stands for. The class counts by identity: two classes may bear one name. */
export interface OperationOwner {
  readonly type: object;
  /** `OrdersService.create`. */
  readonly name: string;
}

/**
 * Whose operation is whose, within one registration. Two methods with one operation would answer each other's calls, so the second is
 * refused: at boot, or for a class that Nest makes later, when its method is first called.
 */
export class OperationRegistry {
  private readonly owners = new Map<string, OperationOwner>();

  /** @throws ConfigurationError when another method has the operation */
  claim(operation: string, owner: OperationOwner): void {
    const known = this.owners.get(operation);
    if (!known) this.owners.set(operation, owner);
    else if (known.type !== owner.type || known.name !== owner.name) {
      throw new ConfigurationError(
        `${owner.name} and ${known.name}${known.name === owner.name ? ' of another class of that name' : ''} are both the idempotent ` +
          `operation ${JSON.stringify(operation)} and would answer each other's calls. Give one of them a name of its own: ` +
          `@Idempotent({ operation: '…' })`,
      );
    }
  }
}
