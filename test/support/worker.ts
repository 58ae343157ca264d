import { once } from 'node:events';

/** The messages between a worker process and the test that started it. */
export interface WorkerContext<Data> {
  readonly data: Data;
  /** 0 to count - 1 */
  readonly index: number;
  /** To the test, as JSON: `next()` there. */
  send(message: unknown): void;
  /** The next message from the test; those that came earlier are kept. */
  next<T>(): Promise<T>;
}

/** From worker to test. */
export type WorkerMessage =
  { type: 'message'; value: unknown } | { type: 'result'; value: unknown } | { type: 'error'; stack: string };

/**
 * The body of a worker file: what it returns, or throws, is the worker's result. Afterwards nothing
 * here keeps the process alive; it goes when the test goes.
 */
export function worker<Data>(body: (context: WorkerContext<Data>) => unknown): void {
  const [data, index] = process.argv.slice(2, 4).map((text): unknown => JSON.parse(text));
  const inbox: unknown[] = [];
  process.on('message', (message) => inbox.push(message));
  const orphaned = () => process.exit(1);
  process.once('disconnect', orphaned);

  const post = (message: WorkerMessage) => process.send?.(message);
  const context: WorkerContext<Data> = {
    data: data as Data,
    index: index as number,
    send: (value) => void post({ type: 'message', value }),
    next: async <T>() => {
      while (inbox.length === 0) await once(process, 'message');
      return inbox.shift() as T;
    },
  };
  const finish = (message: WorkerMessage) => {
    process.off('disconnect', orphaned);
    process.send?.(message, () => process.disconnect());
  };
  void (async () => body(context))().then(
    (value: unknown) => finish({ type: 'result', value }),
    (error: unknown) =>
      finish({ type: 'error', stack: error instanceof Error ? String(error.stack) : String(error) }),
  );
}
