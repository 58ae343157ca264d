import type { Charge } from '../payment-provider/payment-provider.js';
import type { CheckoutDto } from './checkout.dto.js';

/** The price of every article. */
const CENTS = 499;

export const chargeOf = ({ sku, cart, card, quantity }: CheckoutDto): Charge => ({
  sku,
  cart,
  card,
  cents: quantity * CENTS,
});
