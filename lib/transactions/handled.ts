const ignore = (): void => undefined;
const { then } = Promise.prototype;

/** Keeps a promise of ours that nobody waits for from ending the process when it is rejected. */
export function handled<T>(promise: Promise<T>): Promise<T> {
  void then.call(promise, undefined, ignore);
  return promise;
}

/** The same for what `then`, `catch` and `finally` make of it. `await` takes no notice of the class. */
class HandledPromise extends Promise<unknown> {
  // oxlint-disable-next-line no-thenable -- a promise
  override then<A = unknown, B = never>(
    onFulfilled?: ((value: unknown) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return handledAfter(handled(then.call(this, onFulfilled, onRejected) as Promise<A | B>));
  }
}
// So that await does not go through then.
Object.defineProperty(HandledPromise.prototype, 'constructor', { value: Promise });

/** Marks what is made of the promise as handled; the promise itself is marked once it is rejected. */
export const handledAfter = <T>(promise: Promise<T>): Promise<T> =>
  Object.setPrototypeOf(promise, HandledPromise.prototype) as Promise<T>;
