import { IsInt, IsString, Matches, Max, Min } from 'class-validator';

export class IssueVoucherDto {
  @IsInt()
  @Min(1)
  @Max(1_000_000)
  cents!: number;
}

export class RedeemVoucherDto {
  @IsString()
  @Matches(/^[\w-]{1,64}$/, { message: 'code must have 1 to 64 letters, digits, underscores or hyphens' })
  code!: string;
}

export class Voucher {
  code!: string;
  cents!: number;
}
