import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const PROCESSES = 2;
const START_MS = 30_000;

export interface Worker {
  readonly url: string;
  readonly alive: boolean;
  /** By SIGKILL: it finishes nothing. */
  kill(): void;
}

/**
 * The processes of the shop that serve the callers. They are kept between runs; those that were
 * killed are replaced.
 */
export class Workers {
  #serving: Worker[] = [];
  #filling: Promise<void> = Promise.resolve();
  readonly #children = new Set<ChildProcess>();
  #isClosed = false;

  constructor(private readonly redisUrl: string) {}

  /** All of them, once they serve. */
  async ready(): Promise<Worker[]> {
    this.#filling = this.#filling.catch(() => {}).then(() => this.#fill());
    await this.#filling;
    return this.#serving;
  }

  /** Those that serve; they count as dead at once, not when the system has told of it. */
  killAll(): void {
    for (const worker of this.#serving) worker.kill();
  }

  /** Kills every process, and starts none any more. */
  close(): void {
    this.#isClosed = true;
    for (const child of this.#children) child.kill('SIGKILL');
  }

  async #fill(): Promise<void> {
    if (this.#isClosed) throw new Error('The lab is closed');
    const alive = this.#serving.filter((worker) => worker.alive);
    const missing = Array.from({ length: PROCESSES - alive.length }, () => this.#start());
    this.#serving = [...alive, ...(await Promise.all(missing))];
  }

  async #start(): Promise<Worker> {
    const child = fork(fileURLToPath(new URL('worker.js', import.meta.url)), {
      env: { ...process.env, REDIS_URL: this.redisUrl },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    const url = await urlOf(child);
    // It is the shop's HTTP server that keeps this process alive.
    child.unref();
    child.channel?.unref();
    const { signalCode, exitCode } = child;
    let alive = signalCode === null && exitCode === null;
    child.once('exit', () => (alive = false));
    return {
      url,
      get alive() {
        return alive;
      },
      kill() {
        alive = false;
        child.kill('SIGKILL');
      },
    };
  }
}

async function urlOf(child: ChildProcess): Promise<string> {
  const settled = new AbortController();
  const { signal } = settled;
  const timer = setTimeout(() => child.kill('SIGKILL'), START_MS);
  try {
    const ended = once(child, 'exit', { signal }).then(([code, killedBy]) => {
      throw new Error(`A process of the lab ended (${code ?? killedBy}) before it served`);
    });
    const [message] = (await Promise.race([once(child, 'message', { signal }), ended])) as [{ url: string }];
    return message.url;
  } finally {
    clearTimeout(timer);
    settled.abort();
  }
}
