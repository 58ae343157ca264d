// Taken off the prototype, as it must not go through the class below.
const then = Reflect.get(Promise.prototype, 'then') as (...handlers: unknown[]) => Promise<unknown>;

/**
 * The promise of a transaction, which knows if its result was used: `await`, `catch`, `finally`,
 * `Promise.all` and a `return` of it all go through `then`.
 */
class AskedPromise extends Promise<unknown> {
  declare wasAsked?: boolean;

  /** Promises derived from it are plain ones. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  // oxlint-disable-next-line no-thenable -- a promise
  override then<A = unknown, B = never>(
    onFulfilled?: ((value: unknown) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.wasAsked = true;
    return then.call(this, onFulfilled, onRejected) as Promise<A | B>;
  }
}

interface Failure {
  readonly transaction: AskedPromise;
  readonly error: unknown;
}

/** The transactions that are to commit one participant. */
class BegunTransactions {
  private readonly underWay = new Set<Promise<unknown>>();
  /** The failures whose promise the body had not asked for when they came. */
  private failures: Failure[] = [];
  /** True once the participant waits: its body knows nothing of what comes of them now. */
  private isWaiting = false;

  add(promise: Promise<unknown>): void {
    const transaction = Object.setPrototypeOf(promise, AskedPromise.prototype) as AskedPromise;
    const over = then.call(
      transaction,
      () => this.underWay.delete(over),
      (error: unknown) => {
        this.underWay.delete(over);
        if (this.isWaiting || !transaction.wasAsked) this.failures.push({ transaction, error });
      },
    );
    this.underWay.add(over);
  }

  get isAnyLeft(): boolean {
    return this.underWay.size > 0 || this.failures.length > 0;
  }

  async untilOver(): Promise<void> {
    this.isWaiting = true;
    this.failures = this.failures.filter(({ transaction }) => !transaction.wasAsked);
    while (this.underWay.size > 0) await Promise.all(this.underWay);
    const [failed] = this.failures;
    this.failures = [];
    this.isWaiting = false;
    if (failed) throw failed.error;
  }
}

/** A part of the work whose end waits for the transactions that are to commit it. */
export abstract class TransactionWaiter {
  private begun: BegunTransactions | undefined;

  /**
   * True while the body runs that the transactions belong to. One that begins outside of that is
   * not awaited.
   */
  abstract readonly isAwaited: boolean;

  /**
   * Takes the promise that its caller is given. {@link untilOver} reports its failure, unless the
   * body has used the result itself; it is no unhandled rejection any more.
   */
  enlist(transaction: Promise<unknown>): void {
    if (this.isAwaited) (this.begun ??= new BegunTransactions()).add(transaction);
  }

  /** True if the body has begun transactions and not awaited them. */
  get isAnyLeft(): boolean {
    return this.begun?.isAnyLeft ?? false;
  }

  /**
   * Resolves once all are over.
   * @throws the error of the first that failed, and that the body did not ask for before it ended
   */
  async untilOver(): Promise<void> {
    await this.begun?.untilOver();
  }
}
