import { KeySpace } from '../../lib/scripting/key-space.js';
import { DeadlineKey, lifetimeOf } from '../../lib/transactions/deadline-key.js';
import { RoundTrips } from '../../lib/transactions/round-trips.js';

const SLOT = 7;
const GRACE_MS = 50;

describe('the deadline key of a connection', () => {
  /** Set at 0 and answered 10 ms later, for 10 s. */
  const set = (key: DeadlineKey): void => key.confirm(SLOT, key.setting(SLOT), lifetimeOf(0, 10, 10_000));
  const keyThatIsSet = (): DeadlineKey => {
    const key = new DeadlineKey(new KeySpace('atomic:'));
    set(key);
    return key;
  };

  it('[TX-16] is in the slot of the transaction', () => {
    const keys = new KeySpace('atomic:', 'app:');
    for (const slot of [0, 1, 8_000, 16_383])
      expect(keys.slotOf(new DeadlineKey(keys).keyIn(slot))).toBe(slot);
  });

  it.each([
    ['with a slightly later deadline', 10_100, 50, true],
    ['with an earlier deadline', 10_000, 50, false],
    ['in another slot', 10_100, 50, false],
    ['that would keep much less time than it has', 13_000, 50, false],
    ['with much of its time over', 16_000, 6_000, false],
    ['that starts after its end', 30_000, 20_000, false],
  ])('[TX-16] is reused, or not, by a transaction %s', (name, deadlineAt, now, isReused) => {
    const slot = name === 'in another slot' ? SLOT + 1 : SLOT;
    const reused = keyThatIsSet().reusableIn(slot, deadlineAt, GRACE_MS, now);
    expect(reused !== undefined).toBe(isReused);
  });

  it('[TX-16] counts as absent while it is being set again', () => {
    const key = keyThatIsSet();
    const older = key.setting(SLOT);
    expect(key.reusableIn(SLOT, 10_100, GRACE_MS, 50)).toBeUndefined();
    const newer = key.setting(SLOT);
    // Its answer comes while the newer one is on its way.
    key.confirm(SLOT, older, lifetimeOf(0, 10, 10_000));
    expect(key.reusableIn(SLOT, 10_100, GRACE_MS, 50)).toBeUndefined();
    key.confirm(SLOT, newer, lifetimeOf(20, 30, 10_000));
    expect(key.reusableIn(SLOT, 10_200, GRACE_MS, 50)).toBeDefined();
  });

  it('[TX-16] reserves three times the slowest of 16 round trips, and 50 ms at least', () => {
    const trips = new RoundTrips();
    expect(trips.graceMs).toBe(50);
    trips.note(100);
    expect(trips.graceMs).toBe(300);
    for (let i = 0; i < 15; i++) trips.note(1);
    expect(trips.graceMs).toBe(300);
    trips.note(20);
    expect(trips.graceMs).toBe(60);
    trips.startFrom(17);
    expect(trips.graceMs).toBe(51);
  });
});
