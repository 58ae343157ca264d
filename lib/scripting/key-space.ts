import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { commonSlot, hashSlot, hashTagOf, tagForSlot } from './hash-slot.js';

/**
 * Builds the names of every key that the library invents, and computes the slot of any key.
 *
 * Names are without the client's `keyPrefix`, which the client adds. Slots are those of the key on
 * the wire, with the prefix.
 */
export class KeySpace {
  constructor(
    /** Stands in front of invented keys only. */
    readonly namespace: string,
    /** ioredis's own `keyPrefix`. It stands in front of all keys. */
    readonly keyPrefix: string = '',
  ) {
    if (/[{}]/.test(namespace)) {
      throw new InvalidArgumentError(
        'forRoot.namespace',
        'free of { and }, which would decide the hash slot',
        namespace,
      );
    }
    if (keyPrefix.includes('{') && hashTagOf(keyPrefix) === undefined) {
      throw new InvalidArgumentError(
        'connection.keyPrefix',
        'free of {, or hold one whole hash tag such as "{shop}:"',
        keyPrefix,
      );
    }
  }

  slotOf(key: string): number {
    return hashSlot(this.keyPrefix + key);
  }

  /** @throws CrossSlotError when the keys do not share a slot */
  commonSlotOf(keys: readonly string[]): number {
    return commonSlot(this.keyPrefix ? keys.map((key) => this.keyPrefix + key) : keys);
  }

  /** Names a key of the library's own, in whatever slot. @param id without braces */
  global(kind: string, id: string): string {
    return `${this.namespace}${kind}:${id}`;
  }

  /** Names a key of the library's own in the given slot. @param id without braces */
  pinned(kind: string, slot: number, id: string): string {
    return `${this.namespace}${kind}:{${tagForSlot(slot)}}:${id}`;
  }

  /**
   * Names a key that serves the user's `key`. It lies in the same slot, whatever braces `key` has,
   * and differs for different keys. A key without a hash tag is hashed whole, so the whole becomes
   * the tag. If a `}` in it would cut that tag short, a tag of the library's own stands for the
   * slot.
   */
  colocated(kind: string, key: string): string {
    const onTheWire = this.keyPrefix + key;
    const tag =
      hashTagOf(onTheWire) ?? (onTheWire.includes('}') ? tagForSlot(hashSlot(onTheWire)) : onTheWire);
    return `${this.namespace}${kind}:{${tag}}:${key}`;
  }
}
