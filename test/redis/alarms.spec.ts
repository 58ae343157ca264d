import { Deadline } from '../../lib/redis/deadline.js';

const never = new Promise<never>(() => undefined);

describe('the one timer of all deadlines', () => {
  afterEach(() => jest.useRealTimers());

  it('[SC-3] goes off though a test had timers of its own in place when it was set', async () => {
    const passed = (ms: number): Promise<unknown> =>
      Deadline.in(ms)
        .race(never, () => new Error('passed'))
        .catch((error: Error) => error.message);
    jest.useFakeTimers();
    void passed(50);
    jest.useRealTimers();
    const hung = new Promise((resolve) => setTimeout(resolve, 1_000, 'hung').unref());
    expect(await Promise.race([passed(20), hung])).toBe('passed');
  });
});
