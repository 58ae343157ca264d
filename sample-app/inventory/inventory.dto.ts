import { IsInt, Max, Min } from 'class-validator';

export class SetStockDto {
  @IsInt()
  @Min(0)
  @Max(1_000_000)
  stock!: number;
}

export class ReserveDto {
  @IsInt()
  @Min(1)
  @Max(1_000)
  quantity!: number;
}
