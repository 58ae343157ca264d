import { Logger } from '@nestjs/common';
import type { ResultEncryption } from './result-codec.js';
import { bytesOf, toBuffer, tombstone, type StoredResult } from './stored-result.js';

/** Encrypts results, bound to the place that each is stored in. */
export class ResultSealer {
  private readonly logger = new Logger('IdempotencyService');

  constructor(private readonly encryption: ResultEncryption | undefined) {}

  /** As it is to be stored. A result that cannot be encrypted is not stored at all. */
  seal(place: string, result: StoredResult): StoredResult {
    if (!this.encryption || result.kind === 'tombstone') return result;
    try {
      return { kind: result.kind, bytes: toBuffer(this.encryption.encrypt(bytesOf(result), place)) };
    } catch (error) {
      this.logger.error('A result cannot be encrypted, so repeated calls will get an error', error);
      return tombstone('not-serializable');
    }
  }

  /** A result that cannot be decrypted is `unreadable`. */
  open(place: string, result: StoredResult): StoredResult {
    if (!this.encryption || result.kind === 'tombstone') return result;
    try {
      return { kind: result.kind, bytes: toBuffer(this.encryption.decrypt(bytesOf(result), place)) };
    } catch (cause) {
      return { kind: 'unreadable', bytes: '', cause };
    }
  }
}
