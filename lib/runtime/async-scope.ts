import { AsyncLocalStorage } from 'node:async_hooks';

interface Frame {
  readonly kind: object;
  readonly value: unknown;
  readonly outer: Frame | undefined;
}

// One for all kinds and the whole process: on Node.js 20 every promise pays for each
// AsyncLocalStorage in use.
const frames = new AsyncLocalStorage<Frame>();

/** One kind of scope. Code that runs inside it, however deep, can find its value. */
export class AsyncScope<T> {
  /** Runs `body` in the scope of `value`. */
  run<R>(value: T, body: () => R): R {
    return frames.run({ kind: this, value, outer: frames.getStore() }, body);
  }

  /** Returns the innermost value around the calling code that `accepts` returns true for. */
  find(accepts: (value: T) => boolean = () => true): T | undefined {
    for (let frame = frames.getStore(); frame; frame = frame.outer)
      if (frame.kind === this && accepts(frame.value as T)) return frame.value as T;
    return undefined;
  }
}
