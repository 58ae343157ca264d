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
import type { CallProgress } from '../scripting/script-call.js';
import { MIN_REPLY_MS } from '../scripting/script-runner.js';
import { LATE, type Batch, type BatchProtocol } from './batch-protocol.js';
import { fail, settle, type PipelinedCommand } from './pipelined-command.js';

/** Sends one batch. Calls one of the two functions, later than it returns. */
export type SendBatch<Made> = (
  batch: Made,
  progress: CallProgress,
  answered: (answer: string, unreplicated?: NotReplicatedError) => void,
  refused: (error: unknown) => void,
) => void;

/**
 * The delay after its time-out within which a command learns of it, so that most commands need no
 * timer of their own: their batch has one.
 */
const SLACK_MS = 10;

/**
 * The time after its time-out at which a command is reported as not applied while its batch waits
 * to be sent again: a copy that is sent from then on is judged late, though both clocks are read in
 * whole milliseconds.
 */
const SURELY_LATE_MS = 2;

/**
 * The queue of a lane. At most one of its batches is under way. So the sequence numbers of its
 * batches arrive in their order, and a copy that arrives after a newer batch is known to be old;
 * and commands that come meanwhile share the next round trip. A key belongs to one lane, so that
 * the commands on it are made in the order of the calls.
 */
export class CommandPipeline<Command extends PipelinedCommand, Made extends Batch<Command>> {
  private queued: Command[] = [];
  private sent: readonly Command[] = [];
  private progress: CallProgress | undefined;
  /** True while something is under way. */
  isBusy = false;
  /** The time that replicas may take beyond a command's own time. */
  private readonly patienceMs: number;
  /** No command under way has an earlier deadline. */
  private earliest = Infinity;
  /** When what is waited for ends at the latest, and deadlines are looked at. */
  private endsAt = Infinity;
  private alarm: ScheduledCall | undefined;

  constructor(
    private readonly connection: RedisConnection,
    /** In which its keys are. */
    private readonly slot: number,
    private readonly protocol: BatchProtocol<Command, Made>,
    durability: DurabilityOptions | undefined,
    private readonly send: SendBatch<Made>,
    /** Called when nothing is under way any more. */
    private readonly onIdle: () => void,
  ) {
    this.patienceMs = durability ? replyDeadline(replicationDeadline(durability)).remainingMs : 0;
  }

  add(command: Command): void {
    this.queued.push(command);
    this.earliest = Math.min(this.earliest, command.deadline.at);
    if (this.isBusy) return this.watch();
    this.isBusy = true;
    this.sendSoon();
  }

  /**
   * Runs behind the microtasks, in which all callers answered by the same read continue: their next
   * commands then travel together.
   */
  private sendSoon(): void {
    process.nextTick(() => this.sendNext());
  }

  private sendNext(): void {
    this.endOverdue();
    if (this.queued.length === 0) return this.rest();
    const commands = this.takeBatch();
    const batch = this.protocol.batchOf(commands);
    // Not taken before it can be written in this same tick: one that gives up until then is known
    // not to have been sent.
    if (this.connection.knownServerTime(batch.deadline, this.slot) === undefined) {
      this.queued = [...commands, ...this.queued];
      void this.untilReachable(batch.deadline);
      return;
    }
    for (const command of commands) command.state = 'sent';
    this.sent = commands;
    this.endsAt = this.patienceMs > 0 ? Infinity : batch.deadline.at;
    this.watch();
    this.connection.observer.batch(commands.length);
    const progress: CallProgress = { mayBeDone: false, refusal: undefined };
    this.progress = progress;
    const refused = (error: unknown): void => this.refused(batch, error);
    try {
      this.send(
        batch,
        progress,
        (answer, unreplicated) => this.answered(batch, answer, unreplicated),
        refused,
      );
    } catch (error) {
      // A batch that cannot be put together fails its own calls, and the next one goes on.
      refused(error);
    }
  }

  private takeBatch(): Command[] {
    const { queued } = this;
    const [first] = queued;
    let size = this.protocol.sizeOf
      ? this.countThatFit()
      : Math.min(queued.length, this.protocol.maxBatchSize);
    if (first!.isAlone) {
      const end = queued.findIndex(({ key }) => key !== first!.key);
      if (end > 0) size = Math.min(size, end);
    }
    if (size < queued.length) return queued.splice(0, size);
    this.queued = [];
    return queued;
  }

  /** Returns how many of the first commands are as large together as a batch may be, at least 1. */
  private countThatFit(): number {
    const { queued, protocol } = this;
    let room = protocol.maxBatchSize;
    let count = 0;
    while (count < queued.length && (room -= protocol.sizeOf!(queued[count]!)) >= 0) count++;
    return Math.max(1, count);
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

  private answered(batch: Made, answer: string, unreplicated: NotReplicatedError | undefined): void {
    const { protocol } = this;
    const again: Command[] = [];
    let late: Command[] = [];
    try {
      protocol.eachAnswer(batch, answer, (run, ofRun) => {
        if (late.length > 0 && ofRun !== LATE) late = this.withoutKey(late, run[0].key);
        if (ofRun === LATE) late.push(...run);
        else if (protocol.isPartial(ofRun)) again.push(...run);
        else run.forEach((command, place) => settle(command, ofRun, place, unreplicated));
      });
    } catch (error) {
      fail(batch.commands, error);
    }
    const [overdue, misjudged] = partition(late, ({ deadline }) => deadline.passed);
    if (overdue.length > 0) fail(overdue, this.cameLate());
    if (misjudged.length > 0) void this.relearnClock(batch, [...again, ...misjudged]);
    else this.sendAgain(again);
  }

  /**
   * Ends commands that were judged late ahead of another on the same key: made now, they would come
   * after it.
   * @returns the others
   */
  private withoutKey(late: readonly Command[], key: string): Command[] {
    const [overtaken, others] = partition(late, (command) => command.key === key);
    fail(overtaken, this.cameLate());
    return others;
  }

  /** Reads the clock again that wrongly judged commands late, and continues. */
  private async relearnClock({ deadline }: Made, again: readonly Command[]): Promise<void> {
    if (this.progress) this.progress.mayBeDone = false;
    await this.connection.relearnClock(this.slot, deadline).catch(() => undefined);
    this.sendAgain(again);
  }

  private refused(batch: Made, error: unknown): void {
    if (error instanceof RedisReplyError && error.reply === 'NOPERM' && hasSeveralKeys(batch)) {
      // The user may not touch one of the keys, which is no reason to refuse the others.
      for (const command of batch.commands) command.isAlone = true;
      this.sendAgain(batch.commands);
    } else {
      fail(batch.commands, error);
      this.sendAgain([]);
    }
  }

  /**
   * Continues, first with commands that were sent and not applied: all commands that were sent for
   * a key, so that their order stays.
   */
  private sendAgain(commands: readonly Command[]): void {
    this.sent = [];
    const again = commands.filter(({ state }) => state === 'sent');
    for (const command of again) command.state = 'queued';
    if (again.length > 0) this.queued = [...again, ...this.queued];
    this.sendSoon();
  }

  private rest(): void {
    this.isBusy = false;
    this.earliest = this.endsAt = Infinity;
    this.stopWatching();
    this.onIdle();
  }

  /**
   * Ensures that each learns its outcome in time. What ends with the batch under way needs no
   * alarm: the batch has one.
   */
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
    // A batch that was refused and sent again is given the time to be refused again: then its
    // commands are known not to be done.
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
      `${this.protocol.commandName} was sent to Redis at ${this.connection.address} and not answered in time; it may have taken effect`,
    );
  }

  private cameLate(): RedisUnavailableError {
    return new RedisUnavailableError(
      `Redis at ${this.connection.address} was reached after the command's time-out`,
    );
  }
}

const hasSeveralKeys = ({ commands }: Batch<PipelinedCommand>): boolean =>
  commands.some(({ key }) => key !== commands[0]!.key);

function partition<T>(all: readonly T[], isFirst: (one: T) => boolean): [T[], T[]] {
  const parts: [T[], T[]] = [[], []];
  for (const one of all) parts[isFirst(one) ? 0 : 1].push(one);
  return parts;
}
