import { LeaseLostError } from 'nestjs-atomic-redis';
import {
  isKept,
  LeaseKeeper,
  lookMsOf,
  type PausableLease,
  type Renewal,
} from '../../lib/leases/lease-keeper.js';

class TestLease implements PausableLease {
  index = -1;
  pauses = 0;
  renewing: Promise<void> | undefined;
  renewals = 0;
  /** Number of times that the keeper has checked it. */
  looks = 0;
  readonly reasons: Error[] = [];
  readonly lostAt: number[] = [];
  private end: number;

  constructor(
    readonly leaseMs: number,
    private readonly maxMs = Infinity,
    readonly lookMs = Math.min(lookMsOf(leaseMs), maxMs),
    private readonly from = performance.now(),
  ) {
    this.end = from + leaseMs;
  }

  get isPaused(): boolean {
    return this.pauses > 0;
  }

  get endsAt(): number {
    this.looks++;
    return this.end;
  }

  set endsAt(end: number) {
    this.end = end;
  }

  overdue(now: number): Error | undefined {
    return now - this.from > this.maxMs ? new Error('too long') : undefined;
  }

  lost(reason: Error): void {
    this.reasons.push(reason);
    this.lostAt.push(performance.now() - this.from);
  }
}

const renewed = (lease: TestLease, lengthMs = lease.leaseMs): Renewal => {
  lease.endsAt = performance.now() + lengthMs;
  return 'renewed';
};

describe('the lease keeper', () => {
  let keepers: LeaseKeeper<TestLease>[] = [];

  /** A keeper whose renewals are answered by `answer`, and the times and leases of what it sent. */
  const start = (
    answer: (lease: TestLease, lengthMs?: number) => Renewal | Promise<Renewal>,
  ): {
    keeper: LeaseKeeper<TestLease>;
    sent: { at: number; leases: readonly TestLease[]; lengthMs: number | undefined }[];
  } => {
    const sent: { at: number; leases: readonly TestLease[]; lengthMs: number | undefined }[] = [];
    const keeper = new LeaseKeeper<TestLease>((leases, lengthMs) => {
      sent.push({ at: performance.now(), leases, lengthMs });
      return leases.map(async (lease) => await answer(lease, lengthMs));
    });
    keepers.push(keeper);
    return { keeper, sent };
  };

  afterEach(() => {
    for (const keeper of keepers) keeper.close(new Error('the test is over'));
    keepers = [];
  });

  describe('by its clock', () => {
    beforeEach(() => void jest.useFakeTimers());
    afterEach(() => void jest.useRealTimers());

    it('[ID-8] renews a lease at about a third of its length, each time', async () => {
      const { keeper, sent } = start(renewed);
      const lease = new TestLease(6_000);
      keeper.keep(lease);
      const from = performance.now();
      await jest.advanceTimersByTimeAsync(60_000);
      expect(lease.reasons).toEqual([]);
      let last = from;
      for (const { at } of sent) {
        expect(at - last).toBeGreaterThan(6_000 / 4);
        expect(at - last).toBeLessThan(6_000 / 2);
        last = at;
      }
      expect(sent.length).toBeGreaterThan(60_000 / 6_000);
      expect(lease.renewals).toBe(sent.length);
    });

    it('[ID-8] retries an unanswered renewal at each sixth, and reports the loss before the lease ends', async () => {
      const { keeper, sent } = start(() => Promise.reject(new Error('no answer')));
      const lease = new TestLease(6_000);
      keeper.keep(lease);
      await jest.advanceTimersByTimeAsync(6_000);
      expect(sent.length).toBeGreaterThanOrEqual(3);
      expect(lease.reasons).toEqual([expect.any(LeaseLostError)]);
      expect(lease.lostAt[0]).toBeGreaterThan(6_000 * (2 / 3));
      expect(lease.lostAt[0]).toBeLessThan(6_000);
      const attempts = sent.length;
      await jest.advanceTimersByTimeAsync(60_000);
      expect(sent).toHaveLength(attempts);
      expect(lease.reasons).toHaveLength(1);
    });

    it('[ID-8] continues after a failed renewal', async () => {
      let answers = 0;
      const { keeper } = start((lease) => (answers++ % 2 === 0 ? 'failed' : renewed(lease)));
      const lease = new TestLease(6_000);
      keeper.keep(lease);
      await jest.advanceTimersByTimeAsync(60_000);
      expect(lease.reasons).toEqual([]);
      expect(isKept(lease)).toBe(true);
    });

    it('[ID-8] reports a loss as soon as Redis does', async () => {
      const { keeper } = start(() => 'lost');
      const lease = new TestLease(6_000);
      keeper.keep(lease);
      await jest.advanceTimersByTimeAsync(3_000);
      expect(lease.reasons).toEqual([expect.any(LeaseLostError)]);
    });

    it('[ID-8] gives up a lease that was held for too long', async () => {
      const { keeper } = start(renewed);
      const lease = new TestLease(6_000, 500);
      keeper.keep(lease);
      await jest.advanceTimersByTimeAsync(1_100);
      expect(lease.reasons).toEqual([new Error('too long')]);
    });

    it('[ID-8] keeps leases of all lengths, and checks each as often as its own length requires', async () => {
      const { keeper } = start(renewed);
      const lengths = [10, 100, 101, 1_000, 6_000, 30_000, 86_400_000];
      const leases = lengths.map((ms) => new TestLease(ms));
      for (const lease of leases) keeper.keep(lease);
      await jest.advanceTimersByTimeAsync(60_000);
      for (const { reasons, looks, leaseMs } of leases) {
        expect(reasons).toEqual([]);
        expect(looks).toBeLessThanOrEqual(12 * (60_000 / leaseMs) + 1);
      }
    });

    it('[ID-8] sends the renewals of one tick together', async () => {
      const { keeper, sent } = start(renewed);
      for (let i = 0; i < 100; i++) keeper.keep(new TestLease(6_000));
      await jest.advanceTimersByTimeAsync(2_900);
      expect(sent.map(({ leases }) => leases.length)).toEqual([100]);
    });

    it('[ID-8] renews other leases while one renewal is unanswered', async () => {
      const { keeper, sent } = start((lease) =>
        lease === silent ? new Promise<Renewal>(() => undefined) : renewed(lease),
      );
      const silent = new TestLease(60_000);
      const other = new TestLease(60_000);
      keeper.keep(silent);
      keeper.keep(other);
      await jest.advanceTimersByTimeAsync(300_000);
      expect(silent.reasons).toHaveLength(1);
      expect(other.reasons).toEqual([]);
      expect(sent.filter(({ leases }) => leases.includes(silent))).toHaveLength(1);
    });

    it('[ID-8] holds renewals back while a lease is paused, and still reports its loss', async () => {
      const { keeper, sent } = start(renewed);
      const lease = new TestLease(6_000);
      keeper.keep(lease);
      expect(await keeper.prolongAndPause(lease, performance.now() + 5_000)).toBe(true);
      await jest.advanceTimersByTimeAsync(4_500);
      expect(sent).toEqual([]);
      keeper.resume(lease);
      await jest.advanceTimersByTimeAsync(500);
      expect(sent).toHaveLength(1);
      expect(await keeper.prolongAndPause(lease, performance.now())).toBe(true);
      await jest.advanceTimersByTimeAsync(6_000);
      expect(lease.reasons).toHaveLength(1);
      expect(await keeper.prolongAndPause(lease, performance.now())).toBe(false);
    });

    it('[ID-8] extends a paused lease past its own length, once a renewal in flight has settled', async () => {
      let answer: (renewal: Renewal) => void = () => undefined;
      const { keeper, sent } = start((lease, lengthMs) =>
        lengthMs === undefined
          ? new Promise<Renewal>((resolve) => (answer = resolve))
          : renewed(lease, lengthMs),
      );
      const lease = new TestLease(6_000);
      keeper.keep(lease);
      await jest.advanceTimersByTimeAsync(2_900);
      expect(sent).toHaveLength(1);
      const prolonged = keeper.prolongAndPause(lease, performance.now() + 20_000);
      await jest.advanceTimersByTimeAsync(100);
      expect(sent).toHaveLength(1);
      answer('failed');
      expect(await prolonged).toBe(true);
      expect(sent).toHaveLength(2);
      expect(sent[1]!.lengthMs).toBeGreaterThanOrEqual(19_800);
      await jest.advanceTimersByTimeAsync(18_000);
      expect(lease.reasons).toEqual([]);
    });

    it('[ID-8] extends a lease for several holders at a time, and none shortens another’s extension', async () => {
      const { keeper, sent } = start(renewed);
      const lease = new TestLease(6_000);
      keeper.keep(lease);
      const now = performance.now();
      const untils = [8_000, 20_000, 9_000, 20_000].map((ms) => now + ms);
      expect(await Promise.all(untils.map((until) => keeper.prolongAndPause(lease, until)))).toEqual(
        untils.map(() => true),
      );
      expect(lease.endsAt).toBeGreaterThanOrEqual(now + 20_000);
      expect(sent).toHaveLength(2);
    });

    it('[ID-8] passes on the reason why a lease could not be extended', async () => {
      const { keeper } = start(() => Promise.reject(new Error('no answer')));
      const lease = new TestLease(6_000);
      keeper.keep(lease);
      await expect(keeper.prolongAndPause(lease, performance.now() + 20_000)).rejects.toThrow('no answer');
      expect(isKept(lease)).toBe(true);
    });

    it('[ID-8] keeps leases that are added while a loss is reported', async () => {
      const { keeper } = start(renewed);
      const next = new TestLease(600);
      const lease = new TestLease(6_000, 500);
      const lost = lease.lost.bind(lease);
      lease.lost = (reason) => {
        lost(reason);
        keeper.keep(next);
        next.endsAt = performance.now() + 600;
      };
      keeper.keep(lease);
      await jest.advanceTimersByTimeAsync(10_000);
      expect(lease.reasons).toHaveLength(1);
      expect(next.renewals).toBeGreaterThan(10);
    });
  });

  it('[ID-8] keeps no timer without leases or after a close, and ignores replies from then on', async () => {
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    let answer: (renewal: Renewal) => void = () => undefined;
    const { keeper } = start(() => new Promise<Renewal>((resolve) => (answer = resolve)));
    const lease = new TestLease(60_000);
    keeper.keep(lease);
    expect(timers()).toBe(before + 1);
    expect(keeper.letGo(lease)).toBe(true);
    expect(keeper.letGo(lease)).toBe(false);
    expect(timers()).toBe(before);
    keeper.keep(lease);
    expect(timers()).toBe(before + 1);
    const prolonged = keeper.prolongAndPause(lease, performance.now() + 120_000);
    await new Promise((resolve) => setImmediate(resolve));
    const closed = new Error('closed');
    keeper.close(closed);
    answer('lost');
    expect(await prolonged).toBe(false);
    expect(timers()).toBe(before);
    expect(lease.reasons).toEqual([closed]);
    const late = new TestLease(60_000);
    keeper.keep(late);
    expect(late.reasons).toEqual([closed]);
    expect(timers()).toBe(before);
  });
});
