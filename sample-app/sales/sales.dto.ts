/** The payment provider's charges for an article. */
export class SalesStatement {
  charges!: number;
  cents!: number;
}

export class SalesStatements {
  /** The latest last. */
  statements!: SalesStatement[];
}
