import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { unschedule, schedule } from '../../lib/runtime/timer-queue.js';
import { Deadline } from '../../lib/runtime/deadline.js';
import { waitFor } from '../support/wait-for.js';

const never = new Promise<never>(() => undefined);

describe('the one timer of all deadlines', () => {
  afterEach(() => jest.useRealTimers());

  it('[SC-3] fires even if a test had fake timers in place when it was set', async () => {
    const passed = (ms: number): Promise<unknown> =>
      Deadline.in(ms)
        .race(never, () => new Error('passed'))
        .catch((error: Error) => error.message);
    // The time of the test's own timers begins at 0; what was to be then is long over.
    await waitFor('a clock that is past it', () => performance.now() > 1_500);
    jest.useFakeTimers();
    void passed(50);
    jest.useRealTimers();
    const hung = new Promise((resolve) => setTimeout(resolve, 10_000, 'hung').unref());
    expect(await Promise.race([passed(20), hung])).toBe('passed');
  });

  it('[SC-3] fires due entries together, entries set by these, and later ones, each once', async () => {
    const rung: string[] = [];
    const at = performance.now() + 20;
    schedule(at, () => {
      rung.push('first');
      // It is on its way.
      if (unschedule(second)) rung.push('called off');
      schedule(at, () => rung.push('set by the first'));
    });
    const second = schedule(at, () => rung.push('second'));
    unschedule(schedule(at, () => rung.push('nobody')));
    schedule(at + 100, () => rung.push('later'));
    await waitFor('all to ring', () => rung.length >= 4);
    expect(rung.slice(0, 2)).toEqual(['first', 'second']);
    // Whichever is first on a machine that was late for both.
    expect(rung.slice(2).toSorted()).toEqual(['later', 'set by the first']);
  });

  it('[SC-3] fires after the replies that arrived while the event loop was blocked', async () => {
    const server = createServer((socket) => socket.pipe(socket));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      const answered = once(socket, 'data').then(() => 'answered');
      const told = Deadline.in(50).race(answered, () => new Error('passed'));
      socket.write('question');
      // It is on its way to the other side, or back, when the timer is due.
      const until = performance.now() + 200;
      setImmediate(() => {
        while (performance.now() < until);
      });
      expect(await told).toBe('answered');
    } finally {
      socket.destroy();
      server.close();
    }
  });

  it('[SC-3] keeps the process alive while a caller waits, and not longer', () => {
    const timers = (): number => process.getActiveResourcesInfo().filter((one) => one === 'Timeout').length;
    const before = timers();
    const at = performance.now() + 60_000;
    unschedule(schedule(at, () => undefined));
    expect(timers()).toBe(before);
    const alarm = schedule(at + 1, () => undefined);
    expect(timers()).toBe(before + 1);
    unschedule(alarm);
    expect(timers()).toBe(before);
  });
});
