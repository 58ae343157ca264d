import { Injectable } from '@nestjs/common';
import { getRunToken } from '../atomic-redis.constants.js';
import { injection } from '../injection.js';
import { RedisConnection } from '../connection/redis-connection.js';
import { currentParticipant, type Participant } from '../scripting/commit-participant.js';
import { IllegalRunStateError } from './idempotency.errors.js';
import { IdempotentRun } from './idempotent-run.js';
import { RunCommit } from './run-commit.js';
import type { StepOptions, StepWork } from './steps/step.options.js';
import { UnprotectedScope } from './unprotected-run.js';

/**
 * Stands for whichever run the calling code is part of. Its members throw `IllegalRunStateError`
 * outside of one.
 */
@Injectable()
export class CurrentRun extends IdempotentRun {
  constructor(private readonly connection: RedisConnection) {
    super();
  }

  override get signal(): AbortSignal {
    return this.current().signal;
  }

  override get attempt(): number {
    return this.current().attempt;
  }

  override get resumed(): boolean {
    return this.current().resumed;
  }

  override keyFor(name: string): string {
    return this.current().keyFor(name);
  }

  override async step<T>(name: string, work: StepWork<T>, options?: StepOptions<T>): Promise<T> {
    return await this.current().step(name, work, options);
  }

  private current(): IdempotentRun {
    const isOwn = (one: Participant): boolean =>
      one.connection === this.connection && (one instanceof RunCommit || one instanceof UnprotectedScope);
    const found = currentParticipant(isOwn) as RunCommit | UnprotectedScope | undefined;
    if (found) return found.run;
    throw new IllegalRunStateError(
      'There is no idempotent run here: use the injected run inside a method with @Idempotent(), or inside IdempotencyService.run(), of the same registration',
    );
  }
}

/**
 * Injects the {@link IdempotentRun} that the calling `@Idempotent` method is part of.
 *
 * ```ts
 * constructor(@InjectRun() private readonly run: IdempotentRun) {}
 * ```
 *
 * @param name of the registration. Default: the unnamed one.
 */
export const InjectRun = (name?: string): PropertyDecorator & ParameterDecorator =>
  injection('InjectRun', getRunToken(name));
