import { IsInt, IsOptional, IsString, Length, Matches, Max, MaxLength, Min } from 'class-validator';

/** Half of a surrogate pair is valid in JSON, but has no UTF-8 to be kept as. */
const WELL_FORMED = /^\P{Surrogate}*$/u;

export class SetPriceDto {
  /** Money is in whole cents. */
  @IsInt()
  @Min(0)
  @Max(1_000_000_000)
  cents!: number;

  @IsString()
  @Length(1, 64)
  @Matches(WELL_FORMED)
  changedBy!: string;
}

export class SetDescriptionDto {
  @IsString()
  @MaxLength(10_000)
  @Matches(WELL_FORMED)
  text!: string;
}

export class HistoryQueryDto {
  @IsOptional()
  @Matches(/^[1-9]\d{0,18}-\d{1,19}$/, { message: 'before must be the next of another page' })
  before?: string;
}

export class Price {
  sku!: string;
  cents!: number;
  /** The previous price; null for the first. */
  before!: number | null;
}

export class PriceChange {
  time!: Date;
  from!: number | null;
  to!: number | null;
  by!: string | null;
}

export class PriceHistory {
  /** Newest first. */
  changes!: PriceChange[];
  /** `before` of the page with older changes. */
  next!: string | null;
}

export class Views {
  sku!: string;
  views!: number;
}

export class Description {
  text!: string;
}
