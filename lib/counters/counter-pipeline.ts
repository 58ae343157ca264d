import {
  OutcomeUnknownError,
  RedisReplyError,
  RedisUnavailableError,
  type NotReplicatedError,
} from '../atomic-redis.errors.js';
import { unschedule, schedule, type ScheduledCall } from '../runtime/timer-queue.js';
import type { Deadline } from '../runtime/deadline.js';
import { replyDeadline, replicationDeadline, type DurabilityOptions } from '../connection/durability.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { MIN_REPLY_MS, type CallProgress } from '../scripting/script-runner.js';
import { batchOf, eachAnswer, type CounterBatch } from './counter-batch.js';
import { fail, settle, type CounterCommand } from './counter-command.js';
import { CounterState, Refusal } from './lua-counter.js';

/** What was answered to a batch. */
export interface BatchAnswer {
  readonly answer: string;
  /** When replicas did not have it in time. */
  readonly unreplicated: NotReplicatedError | undefined;
}

/** Sends one batch. */
export type SendBatch = (batch: CounterBatch, progress: CallProgress) => Promise<BatchAnswer>;

/** How much later than its time-out an operation may be told of it, so that most need no alarm: their batch has one. */
const SLACK_MS = 10;

/**
 * How long after its time-out an operation is told that it was not done, where its batch waits to be sent again: a copy that is sent from then on is judged
 * late, though both clocks are read in whole milliseconds.
 */
const SURELY_LATE_MS = 2;

/**
 * A queue of operations, of which one batch at most is under way. That makes the sequence numbers of a lane's batches arrive in their order, so that any copy
 * which arrives after a newer batch is known to be old; and it lets what comes meanwhile share the next round trip. A counter belongs to one lane, so that
 * what is done to it is done in the order of the calls.
 */
export class CounterPipeline {
  private queued: CounterCommand[] = [];
  private sent: readonly CounterCommand[] = [];
  private progress: CallProgress | undefined;
  /** Whether something is under way. */
  isBusy = false;
  /** How long replicas may take beyond an operation's own time. */
  private readonly patienceMs: number;
  /** No operation under way has an earlier deadline. */
  private earliest = Infinity;
  /** When what is waited for ends at the latest, and deadlines are looked at. */
  private endsAt = Infinity;
  private alarm: ScheduledCall | undefined;

  constructor(
    private readonly connection: RedisConnection,
    /** In which its counters are. */
    private readonly slot: number,
    private readonly maxBatchSize: number,
    durability: DurabilityOptions | undefined,
    private readonly send: SendBatch,
    /** Called when nothing is under way any more. */
    private readonly onIdle: () => void,
  ) {
    this.patienceMs = durability ? replyDeadline(replicationDeadline(durability)).remainingMs : 0;
  }

  add(operation: CounterCommand): void {
    this.queued.push(operation);
    this.earliest = Math.min(this.earliest, operation.deadline.at);
    if (this.isBusy) return this.watch();
    this.isBusy = true;
    this.sendSoon();
  }

  /** Behind the microtasks, in which everybody goes on who was answered by the same read: what they ask for then travels together. */
  private sendSoon(): void {
    process.nextTick(() => this.sendNext());
  }

  private sendNext(): void {
    this.endOverdue();
    if (this.queued.length === 0) return this.rest();
    const operations = this.takeBatch();
    const batch = batchOf(operations);
    // Not taken before it can be written in this same tick: one that gives up until then is known not to have been sent.
    if (this.connection.knownServerTime(batch.deadline, this.slot) === undefined) {
      this.queued = [...operations, ...this.queued];
      void this.untilReachable(batch.deadline);
      return;
    }
    for (const operation of operations) operation.state = 'sent';
    this.sent = operations;
    this.endsAt = this.patienceMs > 0 ? Infinity : batch.deadline.at;
    this.watch();
    this.connection.observer.batch(operations.length);
    const progress: CallProgress = { mayBeDone: false, refusal: undefined };
    this.progress = progress;
    this.send(batch, progress).then(
      (answer) => this.answered(batch, answer),
      (error: unknown) => this.refused(batch, error),
    );
  }

  private takeBatch(): CounterCommand[] {
    const { queued } = this;
    const [first] = queued;
    let size = Math.min(queued.length, this.maxBatchSize);
    if (first!.isAlone) {
      const end = queued.findIndex(({ key }) => key !== first!.key);
      if (end > 0) size = Math.min(size, end);
    }
    if (size < queued.length) return queued.splice(0, size);
    this.queued = [];
    return queued;
  }

  private async untilReachable(deadline: Deadline): Promise<void> {
    this.endsAt = deadline.at;
    this.watch();
    try {
      await this.connection.inServerTime(deadline, this.slot);
    } catch (error) {
      const [waited, newer] = partition(this.queued, ({ deadline: { at } }) => at <= deadline.at);
      this.queued = newer;
      fail(waited, error);
    }
    this.sendNext();
  }

  private answered(batch: CounterBatch, { answer, unreplicated }: BatchAnswer): void {
    const again: CounterCommand[] = [];
    let late: CounterCommand[] = [];
    try {
      eachAnswer(batch, answer, (run, ofRun) => {
        if (late.length > 0 && ofRun !== Refusal.Late) late = this.withoutCounter(late, run[0]!.key);
        if (ofRun === Refusal.Late) late.push(...run);
        else if (ofRun === CounterState.More) again.push(...run);
        else run.forEach((operation, place) => settle(operation, ofRun, place, unreplicated));
      });
    } catch (error) {
      fail(batch.operations, error);
    }
    const [overdue, misjudged] = partition(late, ({ deadline }) => deadline.passed);
    if (overdue.length > 0) fail(overdue, this.cameLate());
    if (misjudged.length > 0) void this.relearnClock(batch, [...again, ...misjudged]);
    else this.sendAgain(again);
  }

  /** Ends operations that were judged late ahead of another on the same counter: made now, they would come after it. @returns the others */
  private withoutCounter(late: readonly CounterCommand[], key: string): CounterCommand[] {
    const [overtaken, others] = partition(late, (operation) => operation.key === key);
    fail(overtaken, this.cameLate());
    return others;
  }

  /** Reads the clock again by which operations were judged late that were not, and goes on. */
  private async relearnClock({ deadline }: CounterBatch, again: readonly CounterCommand[]): Promise<void> {
    if (this.progress) this.progress.mayBeDone = false;
    await this.connection.relearnClock(this.slot, deadline).catch(() => undefined);
    this.sendAgain(again);
  }

  private refused(batch: CounterBatch, error: unknown): void {
    if (error instanceof RedisReplyError && error.reply === 'NOPERM' && batch.runsOf.size > 1) {
      // The user may not touch one of the keys, which is no reason to refuse the others.
      for (const operation of batch.operations) operation.isAlone = true;
      this.sendAgain(batch.operations);
    } else {
      fail(batch.operations, error);
      this.sendAgain([]);
    }
  }

  /** Goes on, first with what was sent and not done: of each counter all that was sent, so that the order stays. */
  private sendAgain(operations: readonly CounterCommand[]): void {
    this.sent = [];
    const again = operations.filter(({ state }) => state === 'sent');
    for (const operation of again) operation.state = 'queued';
    if (again.length > 0) this.queued = [...again, ...this.queued];
    this.sendSoon();
  }

  private rest(): void {
    this.isBusy = false;
    this.earliest = this.endsAt = Infinity;
    this.stopWatching();
    this.onIdle();
  }

  /** Sees to it that each is told in time. What ends with the batch under way needs no alarm: the batch has one. */
  private watch(): void {
    const lookedAt = Math.min(this.endsAt, this.alarm?.at ?? Infinity);
    if (this.earliest >= lookedAt - SLACK_MS) return;
    this.stopWatching();
    this.alarm = schedule(this.earliest, () => {
      this.alarm = undefined;
      this.endOverdue();
      this.watch();
    });
  }

  private stopWatching(): void {
    if (this.alarm) unschedule(this.alarm);
    this.alarm = undefined;
  }

  /** Answers those whose time is over. */
  private endOverdue(): void {
    const now = performance.now();
    if (this.earliest > now) return;
    this.earliest = Infinity;
    const isOverdue = (endsAt: number): boolean => {
      if (endsAt > now) this.earliest = Math.min(this.earliest, endsAt);
      return endsAt <= now;
    };
    const [late, inTime] = partition(this.queued, ({ deadline }) => isOverdue(deadline.at));
    if (late.length > 0) fail(late, this.connection.unavailable());
    this.queued = inTime;
    const mayBeDone = this.progress?.mayBeDone !== false;
    const refusal = this.progress?.refusal;
    // A batch that was refused and sent again is given the time to be refused again: then its operations are known not to be done.
    const graceMs = mayBeDone ? (refusal ? MIN_REPLY_MS : 0) : SURELY_LATE_MS;
    const allowedMs = this.patienceMs + graceMs;
    const unanswered = this.sent.filter(
      ({ state, deadline }) => state === 'sent' && isOverdue(deadline.at + allowedMs),
    );
    if (unanswered.length > 0)
      fail(unanswered, mayBeDone ? this.unknown() : this.connection.unavailable(refusal));
  }

  private unknown(): OutcomeUnknownError {
    return new OutcomeUnknownError(
      `An operation on a counter was sent to Redis at ${this.connection.address} and not answered in time; it may have taken effect`,
    );
  }

  private cameLate(): RedisUnavailableError {
    return new RedisUnavailableError(
      `Redis at ${this.connection.address} was reached after the operation's time-out`,
    );
  }
}

function partition<T>(all: readonly T[], isFirst: (one: T) => boolean): [T[], T[]] {
  const parts: [T[], T[]] = [[], []];
  for (const one of all) parts[isFirst(one) ? 0 : 1].push(one);
  return parts;
}
