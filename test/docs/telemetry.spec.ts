import { waitFor } from '../support/wait-for.js';
import { useSdk } from '../observability/sdk.js';
import { useExample } from './examples.js';

describe('the example of docs/telemetry.md', () => {
  const sdk = useSdk();
  const { send } = useExample('docs/telemetry.md');

  it('traces a run, the add within it, and its duplicate', async () => {
    const like = () => send('POST', '/articles/7/likes', undefined, { 'idempotency-key': 'a' });
    expect(await like()).toMatchObject({ body: { likes: 1 } });
    expect(await like()).toMatchObject({ body: { likes: 1 } });
    await waitFor('the spans', () => sdk.spans.length === 3);
    const add = sdk.spans.find(({ name }) => name === 'counters.add');
    const [run, duplicate] = sdk.spans.filter((span) => span !== add);
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
