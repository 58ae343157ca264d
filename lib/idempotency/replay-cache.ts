import { LRUCache } from 'lru-cache';
import type { ReplayCacheOptions } from './idempotency.options.js';
import { mismatchOf } from './record-key.js';
import { toBuffer, type StoredResult } from './stored-result.js';

interface Cached {
  readonly fingerprint: string;
  readonly result: StoredResult;
}

/** The size of an entry without its result: names, links and objects, in bytes. */
const ENTRY_BYTES = 512;

/**
 * Results of completed runs, kept in this process as bytes, so that no caller can change the result
 * of the next.
 */
export class ReplayCache {
  private readonly entries: LRUCache<string, Cached>;
  private forgotten = 0;
  private readonly maxTtlMs: number;

  constructor({ maxBytes, ttlMs = 60_000 }: ReplayCacheOptions) {
    this.maxTtlMs = ttlMs;
    this.entries = new LRUCache({
      maxSize: maxBytes,
      sizeCalculation: ({ result, fingerprint }, record) =>
        Buffer.byteLength(result.bytes) + fingerprint.length + record.length + ENTRY_BYTES,
    });
  }

  /**
   * @throws IdempotencyCallerMismatchError, IdempotencyMismatchError when it is another caller's or
   * another payload's
   */
  get(record: string, fingerprint: string): StoredResult | undefined {
    const cached = this.entries.get(record);
    if (cached && cached.fingerprint !== fingerprint) throw mismatchOf(cached.fingerprint, fingerprint);
    return cached?.result;
  }

  /** Changes whenever something is forgotten: what was asked for before is not to be kept then. */
  get generation(): number {
    return this.forgotten;
  }

  /** Not longer than Redis keeps it. */
  set(record: string, fingerprint: string, { kind, bytes }: StoredResult, ttlMs: number): void {
    const ttl = Math.min(ttlMs, this.maxTtlMs);
    // To the cache, 0 means for ever.
    if (ttl <= 0) return;
    // A copy, so that an entry keeps no more memory than its own.
    this.entries.set(record, { fingerprint, result: { kind, bytes: toBuffer(bytes) } }, { ttl });
  }

  delete(record: string): void {
    this.forgotten++;
    this.entries.delete(record);
  }

  clear(): void {
    this.entries.clear();
  }
}
