const ignore = (): void => undefined;

// Taken off the prototype, as it is applied to promises of either class.
const then = Reflect.get(Promise.prototype, 'then') as (...handlers: unknown[]) => Promise<unknown>;

/** Keeps the rejection of an internal promise without a waiter from ending the process. */
export function handled<T>(promise: Promise<T>): Promise<T> {
  void then.call(promise, undefined, ignore);
  return promise;
}

/**
 * Does the same for what `then`, `catch` and `finally` make of the promise. `await` takes no notice
 * of the class.
 */
class HandledPromise extends Promise<unknown> {
  // oxlint-disable-next-line no-thenable -- a promise
  override then<A = unknown, B = never>(
    onFulfilled?: ((value: unknown) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    const derived = then.call(this, onFulfilled, onRejected) as Promise<A | B>;
    return handledAfter(handled(derived));
  }
}
// So that await does not go through then.
void Object.defineProperty(HandledPromise.prototype, 'constructor', { value: Promise });

/**
 * Marks what is made of the promise as handled; the promise itself is marked once it is rejected.
 */
export const handledAfter = <T>(promise: Promise<T>): Promise<T> =>
  Object.setPrototypeOf(promise, HandledPromise.prototype) as Promise<T>;
