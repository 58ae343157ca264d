import type { FakeProvider } from '../../payment-provider/fake-provider.js';

/**
 * The middle of one call of each side, all at once, in one process: the payment provider has done
 * what that call asked for, and keeps its answer back.
 */
export class Middle {
  /** Articles whose call has begun, is held, or is over. */
  readonly #calls = new Map<string, 'begun' | 'held' | 'over'>();
  #release!: () => void;
  readonly #released = new Promise<void>((resolve) => (this.#release = resolve));

  /**
   * @param skus the article of each side
   * @param process the only one whose answers are kept back
   */
  constructor(
    private readonly skus: readonly string[],
    provider: FakeProvider,
    process: number,
  ) {
    provider.beforeAnswer = async (request) => {
      if (request.process !== process || this.#calls.get(request.sku) !== 'begun') return;
      this.#calls.set(request.sku, 'held');
      await this.#released;
    };
  }

  /** Makes the call that is to be held. */
  async hold<T>(sku: string, call: () => Promise<T>): Promise<T> {
    this.#calls.set(sku, 'begun');
    try {
      return await call();
    } finally {
      this.#calls.set(sku, 'over');
    }
  }

  /** A side whose call ended before it came so far, as by another fault, is not waited for. */
  get isReached(): boolean {
    return this.skus.every((sku) => ['held', 'over'].includes(this.#calls.get(sku) ?? ''));
  }

  /** Gives the answers, and keeps none back any more. */
  release(): void {
    this.#release();
  }
}
