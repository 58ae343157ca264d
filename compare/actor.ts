import { join } from 'node:path';
import { startWorker, type WorkerProcess } from '../test/support/workers.js';
import type { ActorData, Call, FromActor, Moment, Told } from './messages.js';

/** Is asked at each pause of a call. Returns how long the process is to block its event loop. */
export type OnPause = (actor: Actor, moment: Moment, key: string) => Promise<number | undefined>;

const TIMEOUT_MS = 600_000;

/** A process with a peer, replaced when it was killed. */
export class Actor {
  private process: WorkerProcess | undefined;
  private started: Promise<void> = Promise.resolve();
  private calls = 0;
  private readonly waiting = new Map<number, (told: Told) => void>();
  onPause: OnPause = async () => undefined;

  constructor(
    readonly index: number,
    private readonly data: ActorData,
  ) {}

  /** Starts the process, and another one when it ends by itself. Resolves when it is ready. */
  start(): Promise<void> {
    const process = startWorker({
      script: join(__dirname, 'peer.worker.ts'),
      data: this.data,
      index: this.index,
      timeoutMs: TIMEOUT_MS,
    });
    this.process = process;
    this.started = new Promise((resolve, reject) => {
      void this.listen(process, resolve).catch((error: unknown) => {
        reject(error);
        this.forget();
        // It ended by itself: a peer's unhandled rejection does that.
        if (this.process === process) void this.start();
      });
    });
    this.started.catch(() => {});
    return this.started;
  }

  get pending(): number {
    return this.waiting.size;
  }

  async call(call: Call): Promise<Told> {
    const { process } = this;
    const isThere = await Promise.race([this.started.then(() => true), later(300, false)]).catch(() => false);
    if (!isThere || this.process !== process || !process) return { kind: 'gone' };
    const id = ++this.calls;
    return await new Promise((resolve) => {
      this.waiting.set(id, resolve);
      process.send({ id, call });
    });
  }

  /** By kill -9; another process takes its place. */
  async kill(): Promise<void> {
    const { process } = this;
    this.process = undefined;
    await process?.kill();
    this.forget();
    void this.start();
  }

  ready(): Promise<void> {
    return this.started;
  }

  pause(): void {
    this.process?.pause();
  }

  resume(): void {
    this.process?.resume();
  }

  async stop(): Promise<void> {
    const { process } = this;
    this.process = undefined;
    await process?.kill();
    this.forget();
  }

  private forget(): void {
    for (const tell of this.waiting.values()) tell({ kind: 'gone' });
    this.waiting.clear();
  }

  /** Passes messages on until the process ends. */
  private async listen(process: WorkerProcess, onReady: () => void): Promise<void> {
    for (;;) {
      const message = await process.next<FromActor>();
      if ('ready' in message) onReady();
      else if ('pause' in message) void this.answerPause(process, message);
      else {
        this.waiting.get(message.id)?.(message.told);
        this.waiting.delete(message.id);
      }
    }
  }

  private async answerPause(
    process: WorkerProcess,
    { pause, moment, key }: { pause: number; moment: Moment; key: string },
  ): Promise<void> {
    const stallMs = (await this.onPause(this, moment, key)) ?? 0;
    if (this.process === process) process.send({ resume: pause, stallMs });
  }
}

export const later = <T>(ms: number, value: T): Promise<T> =>
  new Promise((resolve) => setTimeout(resolve, ms, value));
