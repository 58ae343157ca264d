/** What the payment provider has charged for an article. */
export class SalesStatement {
  charges!: number;
  cents!: number;
}

export class SalesStatements {
  /** The latest last. */
  statements!: SalesStatement[];
}
