import { Deadline } from '../../redis/deadline.js';
import type { DurabilityOptions } from '../../redis/durability.js';
import type { RedisConnection } from '../../redis/redis-connection.js';
import type { ScriptRunner } from '../../redis/script-runner.js';
import { InexactResultError, NotAnIntegerError } from '../../atomic-redis.errors.js';
import type { AtomicRedisError } from '../../atomic-redis.errors.js';
import { BalanceOverflowError } from '../transfer.errors.js';
import { Answer } from '../transfer.script.js';
import { closeScript, GONE } from './close.script.js';
import { Decision, decideScript } from './decide.script.js';
import { expireDecisionScript } from './expire-decision.script.js';
import { forgetScript } from './forget.script.js';
import {
  decisionKey,
  keysOfSlot,
  parseTransfer,
  type PendingTransfer,
  type TransferState,
} from './pending-transfer.js';
import { readScript } from './read.script.js';

/** For how long after a transfer was seen open its target may decide. */
const DECIDE_WITHIN_MS = 60_000;

/**
 * How long the target keeps its decision once the transfer is closed. It has to outlive every message by which someone who saw the transfer open may still
 * ask for one, whatever steps the clocks make; and where a failover of the source loses the closing, it is the time for recovery to find that out.
 */
const DECISION_KEPT_MS = 3_600_000;

/** What the steps of one transfer have in common. */
export interface StepOptions {
  readonly deadline: Deadline;
  readonly durability: DurabilityOptions | undefined;
}

/** What the target decided: its balance with the amount, or why it refused. */
export type DecisionOfTarget = { readonly balance: string } | { readonly refusal: string };

type Described = Pick<PendingTransfer, 'id' | 'from' | 'to' | 'amount'>;

/**
 * The steps by which a transfer that was begun comes to its end. Each may be made by anyone, any number of times and late:
 *
 *     open --decide--> open, decided --close--> credited | refunded --expire the decision--> --forget--> gone
 *
 * docs/cross-slot-transfers.md tells what a crash between any two of them leaves, and why a late copy of each does nothing.
 */
export class TransferSteps {
  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
  ) {
    connection.preload([readScript, decideScript, closeScript, expireDecisionScript, forgetScript]);
  }

  /**
   * Until when the target may decide, in its own time. To be asked for before the transfer is seen open, and not again: then the transfer was closed later than
   * that, if at all, and the decision is kept for longer.
   */
  async validUntilMs(to: string, timeoutMs: number): Promise<number> {
    const deadline = Deadline.in(Math.min(timeoutMs, DECIDE_WITHIN_MS));
    return await this.connection.inServerTime(deadline, this.connection.keys.slotOf(to));
  }

  /** As {@link validUntilMs}, for a target that took a transfer for late which is in time. */
  async validUntilAgainMs(to: string, timeoutMs: number): Promise<number> {
    const { connection } = this;
    await connection.relearnClock(connection.keys.slotOf(to), Deadline.in(timeoutMs));
    return await this.validUntilMs(to, timeoutMs);
  }

  /** Reads the transfer as it is now; undefined when it is gone. */
  async read(
    { id, from }: Described,
    { deadline, durability }: StepOptions,
  ): Promise<PendingTransfer | undefined> {
    const { intents } = this.keysOf(from);
    const intent = await this.scripts.run(readScript, { intents }, { id }, deadline, { durability });
    return intent === undefined ? undefined : parseTransfer(id, intent);
  }

  /** @returns undefined when it came too late to decide */
  async decide(
    transfer: Described,
    validUntilMs: number,
    { deadline, durability }: StepOptions,
  ): Promise<DecisionOfTarget | undefined> {
    const { to, amount } = transfer;
    const decision = decisionKey(this.connection.keys, transfer);
    const exact = typeof amount === 'number' ? 'n' : '';
    const answer = await this.scripts.run(
      decideScript,
      { decision, to },
      { validUntilMs, amount, exact },
      deadline,
      { durability },
    );
    return parseDecision(answer);
  }

  /**
   * Gives the amount back if it was refused.
   *
   * @returns what it became, by this or before; undefined when it is gone
   * @throws NotAnIntegerError, BalanceOverflowError when the amount cannot be given back; it stays open
   */
  async close(
    { id, from, amount }: Described,
    decision: DecisionOfTarget,
    { deadline, durability }: StepOptions,
  ): Promise<TransferState | undefined> {
    const { intents } = this.keysOf(from);
    const became = 'balance' in decision ? 'credited' : 'refunded';
    const answer = await this.scripts.run(closeScript, { from, intents }, { id, became }, deadline, {
      durability,
    });
    if (answer === GONE) return undefined;
    if (answer === 'credited' || answer === 'refunded') return answer;
    throw refusalOf(answer, from, amount);
  }

  /** Removes what is left of a transfer that was closed: first at the target, since what is not listed any more nobody would look for. */
  async tidyUp(transfer: Described, { deadline, durability }: StepOptions): Promise<void> {
    const decision = decisionKey(this.connection.keys, transfer);
    const { id, from } = transfer;
    await this.scripts.run(expireDecisionScript, { decision }, { ttlMs: DECISION_KEPT_MS }, deadline, {
      durability,
    });
    await this.scripts.run(forgetScript, this.keysOf(from), { id }, deadline);
  }

  keysOf(from: string): { intents: string; order: string } {
    return keysOfSlot(this.connection.keys, this.connection.keys.slotOf(from));
  }
}

export function parseDecision(answer: string): DecisionOfTarget | undefined {
  const [kind, detail = ''] = answer.split(',');
  if (kind === Decision.Late) return undefined;
  return kind === Decision.Credited ? { balance: detail } : { refusal: detail };
}

/** Why a balance could not be paid into. */
export function refusalOf(reason: string, key: string, amount: number | bigint): AtomicRedisError {
  if (reason === Answer.WrongType) return new NotAnIntegerError(key, 'other-type');
  if (reason === Answer.NotAnInteger) return new NotAnIntegerError(key, 'other-string');
  if (reason === Answer.Overflow) return new BalanceOverflowError(key, amount, 0);
  return new InexactResultError(key, 'a bigint amount');
}
