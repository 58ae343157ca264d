import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { anySignal } from '../../lib/runtime/any-signal.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

describe('anySignal', () => {
  const reason = new Error('over');

  it('aborts with the reason of the source that aborts first', () => {
    const [first, second] = [new AbortController(), new AbortController()];
    const signal = anySignal(first.signal, second.signal);
    expect(signal.aborted).toBe(false);
    second.abort(reason);
    expect(signal.reason).toBe(reason);
    first.abort(new Error('later'));
    expect(signal.reason).toBe(reason);
  });

  it('is aborted from the beginning if a source is', () => {
    expect(anySignal(new AbortController().signal, AbortSignal.abort(reason)).reason).toBe(reason);
  });

  it('aborts at a time-out that nothing else references, whenever garbage is collected', async () => {
    // In a function, whose registers hold nothing once it has returned.
    const combine = (): AbortSignal => anySignal(AbortSignal.timeout(500), new AbortController().signal);
    const signal = combine();
    for (const givenUpAt = performance.now() + 3_000; !signal.aborted && performance.now() < givenUpAt;) {
      collectGarbage();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(signal.reason).toMatchObject({ name: 'TimeoutError' });
  });
});
