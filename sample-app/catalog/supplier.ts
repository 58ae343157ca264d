import { setImmediate } from 'node:timers/promises';
import type { ImportCatalogDto, Product } from './catalog.dto.js';

/**
 * A made-up supplier's feed: products arrive one after the other, and never are all of them in
 * memory.
 */
export async function* productsOf({ edition, products }: ImportCatalogDto): AsyncIterable<Product> {
  for (let i = 0; i < products; i++) {
    if (i % 1_000 === 0) await setImmediate();
    yield { sku: `sku-${i}`, edition, price: 100 + (i % 900) };
  }
}
