import { setTimeout as sleep } from 'node:timers/promises';
import type { WorkerProcess } from '../support/workers.js';

/** The worker died before it answered. */
export class WorkerDied extends Error {
  override readonly name = 'WorkerDied';
}

interface Slot<Reply> {
  worker: WorkerProcess;
  ready: boolean;
  paused: boolean;
  /** By the ids of the calls. */
  readonly waiting: Map<number, { resolve: (reply: Reply) => void; reject: (error: Error) => void }>;
}

/**
 * Worker processes that answer calls, several at a time, and may be killed and paused meanwhile. A
 * killed one is replaced. Each sends a first message when it is ready, and then one for each call:
 * `{ id, reply }`.
 */
export class WorkerPool<Reply> {
  private readonly slots: Slot<Reply>[];
  private readonly changing = new Set<Promise<unknown>>();
  private calls = 0;
  private failed: Error | undefined;

  constructor(
    size: number,
    private readonly start: (index: number) => WorkerProcess,
  ) {
    this.slots = Array.from({ length: size }, (_, index) => ({
      worker: start(index),
      ready: false,
      paused: false,
      waiting: new Map(),
    }));
  }

  async ready(): Promise<void> {
    await Promise.all(this.slots.map((slot) => this.serve(slot)));
  }

  /** @throws WorkerDied */
  async call(index: number, call: object): Promise<Reply> {
    if (this.failed) throw this.failed;
    const { worker, ready, waiting } = this.slots[index]!;
    if (!ready) throw new WorkerDied();
    const id = ++this.calls;
    return await new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      worker.send({ id, call });
    });
  }

  /** By kill -9. @returns false when it is not there anyway */
  kill(index: number): boolean {
    const slot = this.slots[index]!;
    if (!slot.ready) return false;
    slot.ready = false;
    this.inBackground(
      (async () => {
        await slot.worker.kill();
        for (const { reject } of slot.waiting.values()) reject(new WorkerDied());
        slot.waiting.clear();
        slot.worker = this.start(index);
        slot.paused = false;
        await this.serve(slot);
      })(),
    );
    return true;
  }

  /** @returns false when it is not there, or paused already */
  pause(index: number, ms: number): boolean {
    const slot = this.slots[index]!;
    if (!slot.ready || slot.paused) return false;
    const { worker } = slot;
    slot.paused = true;
    worker.pause();
    this.inBackground(
      (async () => {
        await sleep(ms);
        worker.resume();
        if (slot.worker === worker) slot.paused = false;
      })(),
    );
    return true;
  }

  /**
   * Resolves once no worker is being replaced or paused.
   * @throws what a worker failed with by itself
   */
  async settled(): Promise<void> {
    while (this.changing.size > 0) await Promise.all(this.changing);
    if (this.failed) throw this.failed;
  }

  async stop(): Promise<void> {
    await this.settled().catch(() => {});
    await Promise.all(this.slots.map(({ worker }) => worker.kill()));
  }

  private inBackground(step: Promise<unknown>): void {
    const done = step
      .catch((error: Error) => (this.failed ??= error))
      .finally(() => this.changing.delete(done));
    this.changing.add(done);
  }

  private async serve(slot: Slot<Reply>): Promise<void> {
    const { worker } = slot;
    await worker.next();
    slot.ready = true;
    void (async () => {
      for (;;) {
        const { id, reply } = await worker.next<{ id: number; reply: Reply }>();
        slot.waiting.get(id)?.resolve(reply);
        slot.waiting.delete(id);
      }
    })().catch((error: Error) => {
      // Unless it was killed on purpose.
      if (slot.worker === worker && slot.ready) this.failed ??= error;
    });
  }
}
