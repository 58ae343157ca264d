import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Redis } from 'ioredis';
import { AuditedHashService, CounterService, ValueService } from 'nestjs-atomic-redis';
import { descriptionKey, priceLogKey, productKey, viewsKey } from '../redis/keys.js';
import type { Description, Price, PriceHistory, Views } from './product.dto.js';
import { DescriptionChangedException, NoSuchDescriptionException } from './products.errors.js';

export interface TaggedDescription extends Description {
  etag: string;
}

@Injectable()
export class ProductsService {
  constructor(
    private readonly redis: Redis,
    private readonly values: ValueService,
    private readonly auditedHashes: AuditedHashService,
    private readonly counters: CounterService,
  ) {}

  /**
   * Price and log entry are one step: no change is missing in the log, and none is in it that was
   * not made.
   */
  async setPrice(sku: string, cents: number, changedBy: string): Promise<Price> {
    const before = await this.auditedHashes.set(productKey(sku), 'cents', String(cents), {
      log: priceLogKey(sku),
      maxEntries: 1_000,
      actor: changedBy,
    });
    return { sku, cents, before: toCents(before) };
  }

  async priceHistory(sku: string, before: string | undefined): Promise<PriceHistory> {
    const { entries, next } = await this.auditedHashes.history(priceLogKey(sku), { limit: 20, before });
    const changes = entries.map((entry) => ({
      time: entry.time,
      from: toCents(entry.old),
      to: toCents(entry.new),
      by: entry.actor,
    }));
    return { changes, next };
  }

  async findDescription(sku: string): Promise<TaggedDescription> {
    const text = await this.redis.get(descriptionKey(sku));
    if (text === null) throw new NoSuchDescriptionException(sku);
    return { text, etag: etagOf(text) };
  }

  /** @param ifMatch ETag of the text that was changed; null when there should be none */
  async setDescription(sku: string, ifMatch: string | null, text: string): Promise<TaggedDescription> {
    const current = await this.redis.get(descriptionKey(sku));
    if ((current === null ? null : etagOf(current)) !== ifMatch) throw new DescriptionChangedException();
    // Another request may change it now: then it differs from the expected one.
    const { swapped } = await this.values.compareAndSet(descriptionKey(sku), current, text);
    if (!swapped) throw new DescriptionChangedException();
    return { text, etag: etagOf(text) };
  }

  /** Each view is counted once, also when Redis's reply is lost and the command is sent again. */
  async countView(sku: string): Promise<Views> {
    const { value } = await this.counters.add(viewsKey(sku), 1);
    return { sku, views: value };
  }
}

const toCents = (value: string | null): number | null => (value === null ? null : Number(value));

const etagOf = (text: string): string => `"${createHash('sha256').update(text).digest('base64url')}"`;
