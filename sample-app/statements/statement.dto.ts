import { Account } from '../accounts/account.dto.js';

export class StatementEntry {
  /** What was paid out is negative. */
  amount!: number;
  balance!: number;
  at!: string;
}

export class Statement extends Account {
  /** Latest first. */
  transfers!: StatementEntry[];
}
