import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { FaultRequest } from './fault-process.js';
import type { FaultName } from './faults.js';

/** Redis behind the lab's fault proxy. */
export class FaultyRedis {
  /** Answers come in the order of the requests. */
  #last: Promise<number> = Promise.resolve(0);

  private constructor(
    private readonly child: ChildProcess,
    readonly url: string,
    private readonly ended: Promise<undefined>,
  ) {}

  static async start(target: string): Promise<FaultyRedis> {
    const child = fork(fileURLToPath(new URL('fault-process.js', import.meta.url)), [target], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const ended = once(child, 'exit').then(() => undefined);
    const message = await Promise.race([once(child, 'message'), ended]);
    if (!message) throw new Error('The fault proxy of the lab ended before it served');
    // It is the shop's HTTP server that keeps this process alive.
    child.unref();
    child.channel?.unref();
    return new FaultyRedis(child, (message as [string])[0], ended);
  }

  /** From now on, until `reset()`. */
  async arm(fault: FaultName): Promise<void> {
    await this.#ask({ arm: fault });
  }

  /** Number of times that the fault has struck since it was armed. */
  async count(): Promise<number> {
    return await this.#ask({ ask: 'count' });
  }

  async reset(): Promise<void> {
    await this.#ask({ ask: 'reset' });
  }

  stop(): void {
    this.child.kill('SIGKILL');
  }

  #ask(request: FaultRequest): Promise<number> {
    this.#last = this.#last.then(async (known) => {
      // It ends with the shop, perhaps in the middle of a run.
      if (!this.child.connected) return known;
      const heard = once(this.child, 'message');
      this.child.send(request);
      const message = await Promise.race([heard, this.ended]);
      return message ? (message as [number])[0] : known;
    });
    return this.#last;
  }
}
