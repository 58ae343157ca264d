import { IsInt, IsString, Matches, Max, Min } from 'class-validator';

export class CreateOrderDto {
  @IsString()
  @Matches(/^[\w-]{1,64}$/, { message: 'sku must have 1 to 64 letters, digits, underscores or hyphens' })
  sku!: string;

  @IsInt()
  @Min(1)
  @Max(1_000)
  quantity!: number;
}

export class Order {
  id!: number;
  sku!: string;
  quantity!: number;
  placedAt!: string;
}

export class OrderCount {
  count!: number;
}
