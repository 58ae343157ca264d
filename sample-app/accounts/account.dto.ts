import { IsInt, IsString, Matches, Max, Min } from 'class-validator';

/** Money is in whole cents. */
const MOST = 1_000_000_000;

export class SetBalanceDto {
  @IsInt()
  @Min(0)
  @Max(MOST)
  balance!: number;
}

export class WithdrawDto {
  @IsInt()
  @Min(1)
  @Max(MOST)
  amount!: number;
}

export class TransferDto extends WithdrawDto {
  @IsString()
  @Matches(/^[\w-]{1,64}$/, { message: 'to must have 1 to 64 letters, digits, underscores or hyphens' })
  to!: string;
}

export class Account {
  id!: string;
  balance!: number;
}

export class TransferredAccounts {
  from!: Account;
  to!: Account;
}
