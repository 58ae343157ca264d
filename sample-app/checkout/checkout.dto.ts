import { IsInt, IsString, Matches, Max, Min } from 'class-validator';

export class CheckoutDto {
  /** The client's name for what it pays for. A cart is paid for once. */
  @IsString()
  @Matches(/^[\w-]{1,64}$/, { message: 'cart must have 1 to 64 letters, digits, underscores or hyphens' })
  cart!: string;

  @IsString()
  @Matches(/^[\w-]{1,64}$/, { message: 'sku must have 1 to 64 letters, digits, underscores or hyphens' })
  sku!: string;

  @IsInt()
  @Min(1)
  @Max(1_000)
  quantity!: number;

  /**
   * The payment provider's token for a card: `tok_visa`, or `tok_declined` for one without cover.
   */
  @IsString()
  @Matches(/^tok_\w{1,32}$/, { message: 'card must be a token of the payment provider, such as tok_visa' })
  card!: string;
}

export class Receipt {
  cart!: string;
  state!: 'paid' | 'declined';
  /** The provider's id of the charge; null where the card was declined. */
  charge!: string | null;
}

export class PaidOrder {
  cart!: string;
  quantity!: number;
  /** Reserved: the stock is taken, and the charge is not recorded yet. */
  state!: 'reserved' | 'paid';
  charge!: string | null;
}
