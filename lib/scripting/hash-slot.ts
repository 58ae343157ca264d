import { CrossSlotError, InvalidArgumentError } from '../atomic-redis.errors.js';

export const SLOT_COUNT = 16_384;

/** CRC-16/XMODEM, the checksum by which the Redis Cluster specification assigns keys to slots. */
const CRC16_TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  return crc;
});

/** Returns the checksum of a text whose last byte is `byte`, from that of the text before it. */
const nextCrc16 = (crc: number, byte: number): number =>
  ((crc << 8) ^ CRC16_TABLE[(crc >> 8) ^ byte]!) & 0xffff;

/**
 * Returns the part of a key that is hashed: the text between the first `{` and the first `}` after
 * it, or the whole key if there is no such text. (The `cluster-key-slot` package, by which ioredis
 * routes, goes on to a later `}` where the specification stops. A key such as `a{}b}` has another
 * slot there; hence this function.)
 * https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
 */
export function hashTagOf(key: string): string | undefined {
  const open = key.indexOf('{');
  if (open < 0) return undefined;
  const close = key.indexOf('}', open + 1);
  return close > open + 1 ? key.slice(open + 1, close) : undefined;
}

/**
 * Returns a hash tag for keys that share a slot of a Cluster: `` `account:${hashTag(id)}:balance`
 * ``.
 *
 * @throws InvalidArgumentError for text that would not be hashed as a whole: an empty string, or
 * one that holds `{` or `}`
 */
export function hashTag(id: string | number | bigint): string {
  if (!['string', 'number', 'bigint'].includes(typeof id) || !/^[^{}]+$/.test(String(id)))
    throw new InvalidArgumentError('hashTag', 'a non-empty string without { and }, or a number', id);
  return `{${id}}`;
}

export function hashSlot(key: string): number {
  let crc = 0;
  for (const byte of Buffer.from(hashTagOf(key) ?? key)) crc = nextCrc16(crc, byte);
  return crc % SLOT_COUNT;
}

/**
 * Returns the common slot of keys, given as they go over the wire.
 * @throws CrossSlotError if they have none
 */
export function commonSlot(keys: readonly string[]): number {
  const slots = keys.map(hashSlot);
  const [first] = slots;
  if (first === undefined || slots.some((slot) => slot !== first)) throw new CrossSlotError(keys, slots);
  return first;
}

let tags: readonly string[] | undefined;

/**
 * Returns the library's own hash tag for a slot: the smallest decimal number whose text hashes
 * there. It is the same in every process and version, since keys that outlive the process are named
 * by it.
 */
export function tagForSlot(slot: number): string {
  tags ??= makeTags();
  return tags[slot]!;
}

/**
 * Goes through 109,760 numbers. The checksum of each follows from that of all its digits but the
 * last.
 */
function makeTags(): readonly string[] {
  const found: string[] = [];
  const crcs: number[] = [];
  let missing = SLOT_COUNT;
  for (let tens = 0; missing > 0; tens++) {
    for (let digit = 0; digit < 10; digit++) {
      const crc = nextCrc16(tens && crcs[tens]!, 0x30 + digit);
      crcs.push(crc);
      const slot = crc % SLOT_COUNT;
      if (found[slot] !== undefined) continue;
      found[slot] = String(tens * 10 + digit);
      missing--;
    }
  }
  return found;
}
