import { LazyAbort } from '../../lib/runtime/lazy-abort.js';

describe('LazyAbort', () => {
  const reason = new Error('lost');

  it('aborts a signal that was requested before', () => {
    const abort = new LazyAbort();
    const { signal } = abort;
    const listener = jest.fn();
    signal.addEventListener('abort', listener);
    expect([signal.aborted, abort.isAborted]).toEqual([false, false]);
    abort.abort(reason);
    abort.abort(new Error('later'));
    expect([signal.aborted, abort.isAborted, abort.signal]).toEqual([true, true, signal]);
    expect(signal.reason).toBe(reason);
    expect(listener).toHaveBeenCalledTimes(1);
  });

  it('returns an aborted signal afterwards, with the first reason', () => {
    const abort = new LazyAbort();
    abort.abort(reason);
    abort.abort(new Error('later'));
    expect(abort.signal.aborted).toBe(true);
    expect(abort.signal.reason).toBe(reason);
  });
});
