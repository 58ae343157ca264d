import { waitFor } from '../support/wait-for.js';
import { useSdk } from '../observability/sdk.js';
import { useExample } from './examples.js';

describe('the example of docs/telemetry.md', () => {
  const sdk = useSdk();
  const { send } = useExample('docs/telemetry.md');

  it('traces a run and the add within it, and the duplicate', async () => {
    const like = () => send('POST', '/articles/7/likes', undefined, { 'idempotency-key': 'a' });
    expect(await like()).toMatchObject({ body: { likes: 1 } });
    expect(await like()).toMatchObject({ body: { likes: 1 } });
    await waitFor('the spans', () => sdk.spans.length === 3);
    const [add, run, duplicate] = sdk.spans;
    expect(add).toMatchObject({
      name: 'counters.add',
      parentSpanContext: { spanId: run!.spanContext().spanId },
    });
    expect(run!.name).toBe('idempotency.run articles.like');
    expect(duplicate!.attributes).toMatchObject({ 'atomic_redis.outcome': 'replayed' });
    const names = (await sdk.metrics()).map(({ descriptor }) => descriptor.name);
    expect(names).toContain('atomic_redis.idempotency.replays');
  });
});
