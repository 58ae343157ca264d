import type { WorkerProcess } from '../support/workers.js';
import { integerBetween } from './random.js';

export interface ReplacedWorker {
  readonly worker: WorkerProcess;
  readonly ready: Promise<unknown>;
}

/** Worker processes, each of which is replaced when it ends, until `stop`. */
export abstract class ReplacedWorkers<Worker extends ReplacedWorker> {
  protected readonly running: Worker[] = [];
  private isOver = false;

  async stop(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.running.map(({ worker }) => worker.kill()));
  }

  protected one(random: () => number): Worker {
    return this.running[integerBetween(random, 0, this.running.length - 1)]!;
  }

  protected add(one: Worker): void {
    // It may be killed before it is ready.
    one.ready.catch(() => undefined);
    this.running.push(one);
    void this.replace(one);
  }

  /** Starts a worker, and adds it. */
  protected abstract startLike(ended: Worker): void;

  private async replace(one: Worker): Promise<void> {
    await one.worker.exited;
    this.running.splice(this.running.indexOf(one), 1);
    if (!this.isOver) this.startLike(one);
  }
}
