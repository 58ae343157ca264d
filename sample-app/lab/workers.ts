import { fork, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const PROCESSES = 2;
const START_MS = 60_000;

/**
 * Stops a process until its standard input ends. So the process continues even if its stopper was
 * killed, and finds out that it is alone.
 */
const STOP = 'kill -STOP "$1" && echo stopped && read -r _; kill -CONT "$1"';

export interface Worker {
  readonly url: string;
  readonly pid: number;
  readonly alive: boolean;
  /** By SIGKILL: it finishes nothing. */
  kill(): void;
  /** By SIGSTOP. Resolves once it stands still, with what wakes it. */
  stop(): Promise<() => Promise<void>>;
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

  constructor(
    private readonly redisUrl: string,
    private readonly paymentProviderUrl: string,
  ) {}

  /** All of them, once they serve. */
  async ready(): Promise<Worker[]> {
    this.#filling = this.#filling.catch(() => {}).then(() => this.#fill());
    await this.#filling;
    return this.#serving;
  }

  /** Kills the serving workers. They count as dead at once, before the system reports their end. */
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
    const started = await Promise.allSettled(missing);
    // Serving workers stay, even if another one failed to start.
    this.#serving = [...alive, ...started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))];
    const failed = started.find((one) => one.status === 'rejected');
    if (failed) throw failed.reason as Error;
  }

  async #start(): Promise<Worker> {
    const child = fork(fileURLToPath(new URL('worker.js', import.meta.url)), {
      env: {
        ...process.env,
        REDIS_URL: this.redisUrl,
        PAYMENT_PROVIDER_URL: this.paymentProviderUrl,
      },
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
      pid: child.pid!,
      get alive() {
        return alive;
      },
      kill() {
        alive = false;
        child.kill('SIGKILL');
      },
      stop: async () => await stopProcess(child.pid!),
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

async function stopProcess(pid: number): Promise<() => Promise<void>> {
  // In a process group of its own: Ctrl-C is not for it.
  const stopper = spawn('sh', ['-c', STOP, 'sh', String(pid)], {
    stdio: ['pipe', 'pipe', 'ignore'],
    detached: true,
  });
  const ended = once(stopper, 'exit');
  const [said] = (await Promise.race([once(stopper.stdout, 'data'), ended])) as [unknown];
  if (!Buffer.isBuffer(said)) throw new Error(`Process ${pid} could not be stopped`);
  return async () => {
    stopper.stdin.end();
    await ended;
  };
}
