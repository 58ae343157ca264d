/** The transactions under way that are to commit one participant. */
export class BegunTransactions {
  private readonly underWay = new Set<Promise<unknown>>();

  add(transaction: Promise<unknown>): void {
    this.underWay.add(transaction);
    const over = (): void => void this.underWay.delete(transaction);
    transaction.then(over, over);
  }

  /** True if code has begun some and not awaited them. */
  get isAnyLeft(): boolean {
    return this.underWay.size > 0;
  }

  /**
   * Resolves once all are over.
   * @throws the error of the first that failed meanwhile
   */
  async untilOver(): Promise<void> {
    let failed: { readonly error: unknown } | undefined;
    while (this.underWay.size > 0)
      for (const one of [...this.underWay]) await one.catch((error: unknown) => (failed ??= { error }));
    if (failed) throw failed.error;
  }
}
