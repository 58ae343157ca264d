import { IsInt, Max, Min } from 'class-validator';

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
