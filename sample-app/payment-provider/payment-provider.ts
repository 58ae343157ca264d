import { Inject, Injectable } from '@nestjs/common';

/** Injection token for the address of the payment provider. */
export const PAYMENT_PROVIDER_URL = Symbol('PAYMENT_PROVIDER_URL');

/** A card that the fake provider declines. Every other one is charged. */
export const DECLINED_CARD = 'tok_declined';

const ANSWER_MS = 60_000;

export interface Charge {
  sku: string;
  cart: string;
  /** The provider's token for the card. */
  card: string;
  cents: number;
}

/** Everything that was charged for an article. */
export interface Sales {
  charges: number;
  cents: number;
}

/** The shop's client of a payment provider that honours idempotency keys. */
@Injectable()
export class PaymentProvider {
  constructor(@Inject(PAYMENT_PROVIDER_URL) private readonly url: string) {}

  /**
   * Returns the charge's id, or null for a card that was declined.
   *
   * @param idempotencyKey without one, each call is another charge
   */
  async charge(charge: Charge, idempotencyKey?: string): Promise<string | null> {
    const headers = {
      'Content-Type': 'application/json',
      ...(idempotencyKey !== undefined && { 'Idempotency-Key': idempotencyKey }),
    };
    const response = await this.ask('/charges', { method: 'POST', headers, body: JSON.stringify(charge) });
    if (response.status === 402) return null;
    return ((await response.json()) as { id: string }).id;
  }

  async salesOf(sku: string): Promise<Sales> {
    return (await (await this.ask(`/sales/${sku}`)).json()) as Sales;
  }

  private async ask(
    path: string,
    init: { headers?: Record<string, string>; method?: string; body?: string } = {},
  ): Promise<Response> {
    const response = await fetch(this.url + path, {
      ...init,
      headers: { ...init.headers, 'User-Agent': `shop/${process.pid}` },
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    // A card that was declined is an answer. All else is a failure, and may be asked for again.
    if (!response.ok && response.status !== 402)
      throw new Error(`The payment provider answered ${response.status}`);
    return response;
  }
}
