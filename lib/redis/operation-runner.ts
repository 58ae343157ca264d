import { Inject, Injectable } from '@nestjs/common';
import { OPTIONS } from '../atomic-redis.constants.js';
import * as check from '../atomic-redis.validation.js';
import { Deadline } from './deadline.js';
import { checkDurability, copyDurability, type DurabilityOptions } from './durability.js';
import { randomId } from './random-id.js';
import { RedisConnection } from './redis-connection.js';
import { assertNotRetried, Propagation } from './retried-work.js';
import type { ArgumentsOf, NamedValues, Script } from './script.js';
import { ScriptRunner } from './script-runner.js';
import { WorkInFlight } from './work-in-flight.js';

/** Options of every call that changes something by one script. */
export interface OperationOptions {
  /** Time for the call, in milliseconds. Default: the module's `timeoutMs`. */
  timeoutMs?: number;
  /**
   * Keep the answer in Redis, in a key of some 150 bytes for a minute beyond the time-out, so that the call can be sent again when its reply is lost,
   * and has the effect of once. Without it, a lost reply is an `OutcomeUnknownError` at once. @default true
   */
  marker?: boolean;
  /** Inside a transaction, `outside` makes the change all the same, once for each attempt; without it the call is refused. */
  propagation?: `${Propagation.Outside}`;
  /** Wait until replicas have the change; else a `NotReplicatedError` that holds the result. Default: not waited for. */
  durability?: DurabilityOptions;
}

export const operationOptionChecks = {
  timeoutMs: check.waitMs(),
  marker: check.boolean,
  propagation: check.oneOf(Propagation.Outside),
  durability: checkDurability,
} satisfies Record<keyof OperationOptions, check.Check>;

/** Copies options that were checked, for a call that reads them again later. */
export const copyOperationOptions = ({
  timeoutMs,
  marker,
  propagation,
  durability,
}: OperationOptions): OperationOptions => ({
  ...(timeoutMs !== undefined && { timeoutMs }),
  ...(marker !== undefined && { marker }),
  ...(propagation !== undefined && { propagation }),
  ...(durability && { durability: copyDurability(durability)! }),
});

/** A script that recognises copies of itself by a marker; its text begins with `luaOperation`. */
export type OperationScript<Keys extends readonly string[], Args extends readonly string[], Reply> = Script<
  readonly ['marker', ...Keys],
  readonly ['notAfterMs', 'keepMarker', ...Args],
  Reply
>;

/** Runs operations that are one script each, with the effect of once. */
@Injectable()
export class OperationRunner {
  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly inFlight: WorkInFlight,
    @Inject(OPTIONS) private readonly defaults: { readonly timeoutMs: number },
  ) {}

  /**
   * @param what for the message when it is refused inside a transaction: `Moving a balance`
   * @param near the key that the operation is about, in whose slot the marker is put
   * @throws TransactionMisuseError inside an open transaction
   * @throws InvalidArgumentError, CrossSlotError before any I/O
   * @throws RedisUnavailableError when Redis could not be reached in time; nothing was done
   * @throws OutcomeUnknownError when it was sent and not answered in time; if it was not done by then, it never will be
   * @throws NotReplicatedError when it was done, and `durability` was not reached in time
   * @throws RedisReplyError when Redis refused it
   */
  run<Keys extends readonly string[], Args extends readonly string[], Reply>(
    what: string,
    script: OperationScript<Keys, Args, Reply>,
    near: string,
    keys: NamedValues<Keys, string>,
    args: ArgumentsOf<Args>,
    { timeoutMs = this.defaults.timeoutMs, marker = true, propagation, durability }: OperationOptions,
  ): Promise<Reply> {
    return this.inFlight.track(() => {
      assertNotRetried(what, propagation);
      const space = this.connection.keys;
      // Before the marker joins them, which is no key of the caller's and should not be in the error.
      if (this.connection.isCluster) {
        const given = Object.values<string | readonly string[]>(keys).flat();
        if (given.length > 0) space.commonSlotOf(given);
      }
      const id = randomId('base64url');
      const markerKey = this.connection.isCluster
        ? space.inSlot('operation', space.slotOf(near), id)
        : space.own('operation', id);
      return this.scripts.run(
        script,
        { ...keys, marker: markerKey },
        { ...args, keepMarker: marker ? '1' : '' },
        Deadline.in(timeoutMs),
        { resend: marker, durability },
      );
    });
  }
}
