import type { WorkInFlight } from '../runtime/work-in-flight.js';

/** How the calls of one kind travel together. */
export interface Gathered<Call, Settings, Answer> {
  /** What the calls of one script may come to, by what each of them says is its size. */
  readonly maxSize: number;
  /** The settings of a script that serves both, or undefined where two calls cannot be one script. */
  join(settings: Settings, others: Settings): Settings | undefined;
  /** Resolves with the answers, in the order of the calls. */
  send(calls: readonly Call[], settings: Settings): Promise<readonly Answer[]>;
}

interface Batch<Call, Settings, Answer> {
  settings: Settings;
  readonly calls: Call[];
  readonly callers: {
    readonly resolve: (answer: Answer) => void;
    readonly reject: (error: unknown) => void;
  }[];
  size: number;
  /** With which end of the event loop's it leaves. */
  closes: 'turn' | 'round' | undefined;
}

/** Calls that are made in one turn of the event loop leave as one script, in their order. One alone leaves as soon as any would, unless it may wait. */
export class Gathering<Call, Settings, Answer> {
  private open: Batch<Call, Settings, Answer> | undefined;

  constructor(
    private readonly inFlight: WorkInFlight,
    private readonly gathered: Gathered<Call, Settings, Answer>,
  ) {}

  /**
   * @param mayWait it may leave with those of the whole round of the event loop. Node.js ends a turn after each timer and each read, so that ends of handlers
   * which waited for timers would all leave alone
   */
  call(call: Call, settings: Settings, size: number, mayWait = false): Promise<Answer> {
    if (this.open) {
      const joined = this.gathered.join(this.open.settings, settings);
      if (joined) this.open.settings = joined;
      else void this.close(this.open);
    }
    const batch = this.open ?? this.begin(settings);
    this.closeSoon(batch, mayWait);
    return new Promise((resolve, reject) => {
      batch.calls.push(call);
      batch.callers.push({ resolve, reject });
      batch.size += size;
      if (batch.size >= this.gathered.maxSize) void this.close(batch);
    });
  }

  private begin(settings: Settings): Batch<Call, Settings, Answer> {
    const batch: Batch<Call, Settings, Answer> = {
      settings,
      calls: [],
      callers: [],
      size: 0,
      closes: undefined,
    };
    this.open = batch;
    // Shutdown waits for it from now on.
    this.inFlight.enter();
    return batch;
  }

  private closeSoon(batch: Batch<Call, Settings, Answer>, mayWait: boolean): void {
    if (batch.closes === 'turn' || (mayWait && batch.closes === 'round')) return;
    batch.closes = mayWait ? 'round' : 'turn';
    const close = (): void => void this.close(batch);
    if (mayWait) setImmediate(close);
    // Behind the microtasks, in which everybody goes on who was answered by the same read.
    else process.nextTick(close);
  }

  /** Sends it, if it was not sent before. */
  private async close(batch: Batch<Call, Settings, Answer>): Promise<void> {
    if (this.open !== batch) return;
    this.open = undefined;
    const { calls, callers, settings } = batch;
    try {
      const answers = await this.gathered.send(calls, settings);
      callers.forEach(({ resolve }, i) => resolve(answers[i]!));
    } catch (error) {
      for (const { reject } of callers) reject(error);
    } finally {
      this.inFlight.leave();
    }
  }
}
