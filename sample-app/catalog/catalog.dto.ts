import { IsInt, Max, Min } from 'class-validator';

export class ImportCatalogDto {
  /** A later edition replaces an earlier one, never the other way round. */
  @IsInt()
  @Min(0)
  @Max(Number.MAX_SAFE_INTEGER)
  edition!: number;

  /** Number of products that the supplier should send. */
  @IsInt()
  @Min(1)
  @Max(1_000_000)
  products!: number;
}

export class CatalogImport {
  edition!: number;
  /** Products that are in Redis, though invisible before the swap. */
  written!: number;
  state!: 'running' | 'live' | 'older than the live one' | 'failed';
}

export class CatalogRollback {
  rolledBack!: boolean;
}

export class CatalogSize {
  products!: number;
}

export class Product {
  sku!: string;
  edition!: number;
  price!: number;
}
