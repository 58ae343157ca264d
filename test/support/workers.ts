import { fork } from 'node:child_process';
import { join } from 'node:path';
import type { WorkerMessage } from './worker.js';

/** A process that runs a TypeScript file, whose body is a call of `worker()`. */
export interface WorkerProcess<Result = unknown> {
  readonly pid: number;
  /**
   * The result of the worker's body. Rejects if the body threw or the process ended first, with the
   * end of its stderr.
   */
  readonly result: Promise<Result>;
  /** Resolves at the end of the process, whatever ended it. */
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** To the worker, as JSON: `next()` there. */
  send(message: object): void;
  /**
   * The worker's next message; those sent earlier are kept. Rejects when the process ends first.
   */
  next<T>(): Promise<T>;
  /** SIGKILL, also while paused. Resolves when the process is gone. */
  kill(): Promise<void>;
  /** SIGSTOP */
  pause(): void;
  /** SIGCONT */
  resume(): void;
}

export interface WorkerOptions {
  /** Absolute path of the worker's .ts file. */
  script: string;
  /** JSON, as the worker's `data`. */
  data?: unknown;
  /** @default 0 */
  index?: number;
  /** After this the worker is killed. @default 60_000 */
  timeoutMs?: number;
}

const STDERR_TAIL_CHARS = 4_000;

export function startWorker<Result>(options: WorkerOptions): WorkerProcess<Result> {
  const { script, data = null, index = 0, timeoutMs = 60_000 } = options;
  const child = fork(join(__dirname, 'run-ts.cjs'), [script, JSON.stringify(data), JSON.stringify(index)], {
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    // Jest's own, which a test may have added to.
    env: process.env,
  });
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-STDERR_TAIL_CHARS);
  });
  const inbox: unknown[] = [];
  const waiting: { resolve: (message: unknown) => void; reject: (error: Error) => void }[] = [];
  let ended: Error | undefined;
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, timeoutMs);

  const result = new Promise<Result>((resolve, reject) => {
    child.on('message', (message: WorkerMessage) => {
      if (message.type === 'result') resolve(message.value as Result);
      else if (message.type === 'error') reject(new Error(`worker ${index} threw: ${message.stack}`));
      else if (waiting.length > 0) waiting.shift()?.resolve(message.value);
      else inbox.push(message.value);
    });
    // 'close' rather than 'exit': by then all of stderr and every message has arrived.
    child.once('close', (code, signal) => {
      const how = timedOut ? `was killed after ${timeoutMs} ms` : `ended with ${signal ?? `status ${code}`}`;
      ended = new Error(`worker ${index} (${script}) ${how} without a result\n${stderr}`.trimEnd());
      reject(ended);
      for (const waiter of waiting) waiter.reject(ended);
    });
    child.once('error', reject);
  });
  // A worker that is killed on purpose; `result` still rejects.
  result.catch(() => {});
  const exited: WorkerProcess['exited'] = new Promise((resolve) => {
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal });
    });
  });

  return {
    pid: child.pid ?? -1,
    result,
    exited,
    send: (message) => void child.send(message),
    next: async <T>() => {
      if (inbox.length > 0) return inbox.shift() as T;
      if (ended !== undefined) throw ended;
      return new Promise<T>((resolve, reject) =>
        waiting.push({ resolve: (message) => resolve(message as T), reject }),
      );
    },
    kill: async () => {
      child.kill('SIGKILL');
      await exited;
    },
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
  };
}

/**
 * Runs `count` workers at the same time and returns their results by index. None is left running.
 *
 * @example const sums = await runWorkers<number>({ script: join(__dirname, 'add.worker.ts'), count:
 * 4, data: { url } });
 */
export async function runWorkers<Result>(
  options: Omit<WorkerOptions, 'index'> & { count: number },
): Promise<Result[]> {
  const workers = Array.from({ length: options.count }, (_, index) =>
    startWorker<Result>({ ...options, index }),
  );
  try {
    return await Promise.all(workers.map(({ result }) => result));
  } finally {
    await Promise.all(workers.map((each) => each.kill()));
  }
}
