import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsInt,
  IsString,
  Matches,
  Max,
  Min,
  ValidateNested,
} from 'class-validator';

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

export class CartLineDto {
  @IsString()
  @Matches(/^[\w-]{1,64}$/, { message: 'sku must have 1 to 64 letters, digits, underscores or hyphens' })
  sku!: string;

  @IsInt()
  @Min(1)
  @Max(1_000)
  quantity!: number;
}

export class CartDto {
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(50)
  @ArrayUnique((line: CartLineDto) => line?.sku, { message: 'every sku may be in lines once' })
  @ValidateNested({ each: true })
  @Type(() => CartLineDto)
  lines!: CartLineDto[];
}

export class HoldDto extends ReserveDto {
  @IsInt()
  @Min(1)
  @Max(3_600)
  seconds!: number;
}

export class Inventory {
  sku!: string;
  stock!: number;
  /** Number of reservations accepted since the stock was set. */
  reservations!: number;
}

export class Reservation {
  id!: string;
  sku!: string;
  quantity!: number;
  /** The stock after the reservation. */
  left!: number;
}

export class ReservedCart {
  /** The remaining stock of each article. */
  left!: Record<string, number>;
}

export class HeldStock {
  id!: string;
  quantity!: number;
  /** When it is given back, in milliseconds since 1970. */
  expiresAtMs!: number;
  /** The amount left for other callers. */
  available!: number;
}
