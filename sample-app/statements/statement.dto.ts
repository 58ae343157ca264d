import { Account } from '../accounts/account.dto.js';

export class StatementEntry {
  /** Negative for a payment out of the account. */
  amount!: number;
  balance!: number;
  at!: string;
}

export class Statement extends Account {
  /** Latest first. */
  transfers!: StatementEntry[];
}
