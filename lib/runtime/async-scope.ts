import { AsyncLocalStorage } from 'node:async_hooks';

interface Frame {
  readonly kind: object;
  readonly value: unknown;
  readonly outer: Frame | undefined;
}

// One for all kinds and the whole process: on Node.js 20 every promise of the process pays for each AsyncLocalStorage in use.
const frames = new AsyncLocalStorage<Frame>();

/** One kind of thing that code can run inside of, and ask for from wherever it is called. */
export class AsyncScope<T> {
  /** Runs `body` inside of `value`. */
  run<R>(value: T, body: () => R): R {
    return frames.run({ kind: this, value, outer: frames.getStore() }, body);
  }

  /** The innermost that the calling code runs in, and that `accepts` takes. */
  find(accepts: (value: T) => boolean = () => true): T | undefined {
    for (let frame = frames.getStore(); frame; frame = frame.outer)
      if (frame.kind === this && accepts(frame.value as T)) return frame.value as T;
    return undefined;
  }
}
