import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { commonSlot, hashSlot, hashTagOf, tagForSlot } from './hash-slot.js';

/**
 * Builds the names of every key the library invents, and tells the slot of any key.
 *
 * Names are as the client takes them, without its `keyPrefix`; slots are of what goes over the wire, with it.
 */
export class KeySpace {
  constructor(
    /** In front of invented keys only. */
    readonly namespace: string,
    /** ioredis's own `keyPrefix`, which it puts in front of all keys. */
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

  /** A key of the library's own, in a slot of its own: `id` must hold no braces. */
  global(kind: string, id: string): string {
    return `${this.namespace}${kind}:${id}`;
  }

  /** A key of the library's own in a slot of its choosing: `id` must hold no braces. */
  pinned(kind: string, slot: number, id: string): string {
    return `${this.namespace}${kind}:{${tagForSlot(slot)}}:${id}`;
  }

  /**
   * A key that serves the user's `key`, in the same slot for every key whatever braces it has, and different for
   * different keys. A key without a hash tag is hashed whole, so the whole becomes the tag; where it has a `}` that would
   * cut such a tag short, a tag of the library's own stands for the slot.
   */
  colocated(kind: string, key: string): string {
    const onTheWire = this.keyPrefix + key;
    const tag =
      hashTagOf(onTheWire) ?? (onTheWire.includes('}') ? tagForSlot(hashSlot(onTheWire)) : onTheWire);
    return `${this.namespace}${kind}:{${tag}}:${key}`;
  }
}
