import { IllegalTransactionStateError } from '../../atomic-redis.errors.js';
import type { RedisConnection } from '../../connection/redis-connection.js';
import { isInTransaction } from '../../runtime/transaction-scope.js';
import { IllegalRunStateError, StepInterruptedError } from '../idempotency.errors.js';
import { withAwaited } from '../observed-method.js';
import { settled } from '../settled.js';
import { stepFinding } from './probe.js';
import { StepCommit } from './step-commit.js';
import { StepContext } from './step-context.js';
import { StepLog } from './step-log.js';
import { checkStep, type StepOptions, type StepWork } from './step.options.js';
import type { StepEntry, StepStore } from './step-store.js';
import type { StepLimits, SteppedRun } from './stepped-run.js';

const NO_ALIASES: readonly string[] = [];

/** The steps of one run. */
export class RunSteps {
  readonly log: StepLog;
  /** The step with an unknown outcome: the run may not be released. */
  interrupted: string | undefined;
  /** Names asked for in this pass of the method. */
  private readonly asked = new Set<string>();
  /** Names of the steps that are under way. */
  private readonly active = new Set<string>();
  /** The number of steps that have not settled. */
  private unsettled = 0;
  private whenOneSettles: (() => void)[] = [];

  constructor(
    private readonly run: SteppedRun,
    connection: RedisConnection,
    store: StepStore,
    private readonly limits: StepLimits,
  ) {
    this.log = new StepLog(run, connection, store, limits);
  }

  /** The method starts again: steps that it has ended return their results. */
  passBegins(): void {
    this.asked.clear();
  }

  /** Resolves once every step that is under way has settled. */
  async settled(): Promise<void> {
    while (this.unsettled > 0) await this.oneSettles();
  }

  async step<T>(name: string, work: StepWork<T>, options: StepOptions<T>): Promise<T> {
    checkStep(name, work, options);
    const { log, run } = this;
    const { onInterrupted = 'run', aliases = NO_ALIASES } = options;
    this.ask(name, aliases);
    this.unsettled++;
    try {
      // The method may have started again without awaiting its earlier steps.
      while (this.active.has(name)) await this.oneSettles();
      this.active.add(name);
      if (run.goesOn && !(await log.read())) throw this.interruptedBy(name, 'steps-lost');
      const known = log.nameOf(name, aliases);
      if (log.unsure.has(known) && !(await log.lookUp(known))) throw this.interruptedBy(name, 'steps-lost');
      const context = new StepContext(run.run, aliases[0] ?? name);
      const entry = log.entries.get(known);
      const found = entry && (await this.outcomeOf(name, known, entry, options, context));
      if (found) return found.value;
      log.admit(known);
      const mark = onInterrupted === 'run' ? undefined : await log.begin(known);
      // Reading and asking may have taken their time.
      const { objection } = log;
      if (objection) {
        if (mark !== undefined) await log.unmark(known, mark);
        throw objection;
      }
      const commit = new StepCommit(log, known, options);
      let value: T;
      try {
        value = await withAwaited(commit, () => settled(work(context)));
      } catch (error) {
        if (commit.isUnknown) log.unsure.add(known);
        if (commit.kept) log.noteKept(known, commit.kept.sealed);
        else if (!context.saysNothingWasDone(error)) {
          if (onInterrupted === 'hold') this.interrupted ??= name;
        } else if (mark !== undefined) await log.unmark(known, mark);
        throw error;
      }
      if (!commit.kept) return await log.keep(known, value, options);
      log.noteKept(known, commit.kept.sealed);
      return log.given(known, value, commit.kept.result, options.codec);
    } catch (error) {
      this.asked.delete(name);
      for (const alias of aliases) this.asked.delete(alias);
      throw error;
    } finally {
      this.active.delete(name);
      this.unsettled--;
      if (this.whenOneSettles.length > 0) for (const wake of this.whenOneSettles.splice(0)) wake();
    }
  }

  private ask(name: string, aliases: readonly string[]): void {
    if (isInTransaction())
      throw new IllegalTransactionStateError(
        `The step ${JSON.stringify(name)} inside a transaction would run once for each attempt. Begin the transaction inside the step, or the step after it`,
      );
    const { objection } = this.log;
    if (objection) throw objection;
    // Two steps with one former name would share its result and its key for third parties.
    const taken = this.asked.has(name) ? name : aliases.find((alias) => this.asked.has(alias));
    if (taken !== undefined)
      throw new IllegalRunStateError(
        `This run has a step ${JSON.stringify(taken)} already. Each step needs a name of its own, such as one with a number in a loop, and no two may share a former name`,
      );
    this.asked.add(name);
    for (const alias of aliases) this.asked.add(alias);
  }

  private oneSettles(): Promise<void> {
    return new Promise((resolve) => this.whenOneSettles.push(resolve));
  }

  /**
   * Returns the result of a step that an earlier attempt or pass has begun; undefined if its work is
   * to run again.
   */
  private async outcomeOf<T>(
    name: string,
    known: string,
    entry: StepEntry,
    options: StepOptions<T>,
    context: StepContext,
  ): Promise<{ readonly value: T } | undefined> {
    const { log } = this;
    const { onInterrupted = 'run', codec } = options;
    if (entry.state === 'done') {
      log.unused.delete(known);
      if (entry.sealed.kind === 'tombstone') throw this.interruptedBy(name, 'not-kept');
      return { value: log.valueOf(known, entry.sealed, codec) };
    }
    if (onInterrupted === 'run') return undefined;
    const finding =
      onInterrupted === 'hold'
        ? onInterrupted
        : await stepFinding(name, onInterrupted, context, this.limits.probeTimeoutMs);
    if (finding === 'hold') throw this.interruptedBy(name, 'begun');
    return finding === 'run' ? undefined : { value: await log.keep(known, finding.result, options) };
  }

  private interruptedBy(name: string, reason: StepInterruptedError['reason']): StepInterruptedError {
    this.interrupted ??= name;
    return new StepInterruptedError(name, reason);
  }
}
