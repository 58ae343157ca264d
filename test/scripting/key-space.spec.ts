import { fc } from '../support/property.js';
import { CrossSlotError, InvalidArgumentError } from '../../lib/atomic-redis.errors.js';
import { hashSlot, hashTag, hashTagOf, SLOT_COUNT, tagForSlot } from '../../lib/scripting/hash-slot.js';
import { KeySpace } from '../../lib/scripting/key-space.js';
import { useRedis } from '../support/redis.js';

describe('hash slots', () => {
  // From the Cluster specification's own examples, and "123456789", the check value it gives for
  // CRC16/XMODEM.
  it.each([
    ['{user1000}.following', 'user1000'],
    ['foo{}{bar}', undefined],
    ['foo{{bar}}zap', '{bar'],
    ['foo{bar}{zap}', 'bar'],
    ['a{}b}', undefined],
    ['a}b{c', undefined],
    ['plain', undefined],
  ])('are computed from the hash tag of %s', (key, tag) => {
    expect(hashTagOf(key)).toBe(tag);
  });

  it('agree with the specification’s check value', () => {
    expect(hashSlot('123456789')).toBe(0x31c3 % SLOT_COUNT);
  });

  it('have a tag for each slot', () => {
    for (let slot = 0; slot < SLOT_COUNT; slot++) expect(hashSlot(`x{${tagForSlot(slot)}}y`)).toBe(slot);
  });
});

const braced = fc.string({
  unit: fc.constantFrom('{', '}', 'a', 'b', ':', 'é', '\0'),
  minLength: 1,
  maxLength: 12,
});

describe('KeySpace', () => {
  it('[KEY-1] places companion keys in the slot of every key, including keys with stray braces', () => {
    fc.assert(
      fc.property(braced, fc.constantFrom('', 'app:', 'a}b:', '{app}:'), (key, prefix) => {
        const keys = new KeySpace('atomic:', prefix);
        expect(hashSlot(prefix + keys.colocated('producer', key))).toBe(keys.slotOf(key));
      }),
      { numRuns: 5_000 },
    );
  });

  it('[KEY-1] gives different keys different companion keys', () => {
    fc.assert(
      fc.property(braced, braced, (a, b) => {
        fc.pre(a !== b);
        const keys = new KeySpace('atomic:');
        expect(keys.colocated('producer', a)).not.toBe(keys.colocated('producer', b));
      }),
      { numRuns: 5_000 },
    );
  });

  it('refuses a namespace or key prefix that would decide the slot', () => {
    expect(() => new KeySpace('{shop}:')).toThrow(InvalidArgumentError);
    expect(() => new KeySpace('atomic:', 'a{b:')).toThrow(/keyPrefix/);
  });

  it('reports keys, slots and a remedy when keys do not share a slot', () => {
    const error = catchError(() => new KeySpace('atomic:').commonSlotOf(['a', 'b']));
    expect(error).toBeInstanceOf(CrossSlotError);
    expect(error).toMatchObject({ keys: ['a', 'b'], slots: [15495, 3300], outcome: 'not-applied' });
    expect((error as Error).message).toMatch(/hash tag/);
  });
});

describe('against a server in Cluster mode', () => {
  const redis = useRedis({ args: ['--cluster-enabled', 'yes'] });

  it('agrees with CLUSTER KEYSLOT for any key', async () => {
    await fc.assert(
      fc.asyncProperty(braced, async (key) => {
        expect(hashSlot(key)).toBe(await redis.client.cluster('KEYSLOT', key));
      }),
      { numRuns: 1_000 },
    );
  });
});

function catchError(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

describe('hashTag', () => {
  it('[KEY-2] puts keys into one slot', () => {
    const keys = new KeySpace('atomic:');
    expect(keys.commonSlotOf([`a:${hashTag(42)}:x`, `b:${hashTag(42n)}`, hashTag('42')])).toBe(
      keys.slotOf('42'),
    );
  });

  it.each(['', '}', 'a}b', '{', null, undefined])('[KEY-2] refuses %p', (id) => {
    expect(() => hashTag(id as string)).toThrow(InvalidArgumentError);
  });
});
