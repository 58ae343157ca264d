import {
  OutcomeUnknownError,
  RedisUnavailableError,
  IllegalTransactionStateError,
} from '../../lib/atomic-redis.errors.js';
import { defineOperation } from '../../lib/operations/operation.js';
import { OperationRunner } from '../../lib/operations/operation-runner.js';
import type { OperationOptions } from '../../lib/operations/operation.options.js';
import type { RedisConnection } from '../../lib/connection/redis-connection.js';
import { Deadline } from '../../lib/runtime/deadline.js';
import { inTransaction } from '../support/in-transaction.js';
import { ScriptRunner } from '../../lib/scripting/script-runner.js';
import { WorkInFlight } from '../../lib/runtime/work-in-flight.js';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import { startClusterBehindProxies } from '../support/cluster-behind-proxies.js';
import { countCommands } from '../support/command-stats.js';
import { isScript } from '../support/is-script.js';
import { connectionTo } from '../support/library-connection.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';

const increment = defineOperation({
  type: 'test.increment',
  keys: { counter: 'an integer' },
  args: { by: 'an integer' },
  returns: 'a string: the value after',
  lua: `
local next = tonumber(redis.call('GET', KEYS.counter) or '0') + tonumber(ARGV.by)
local answer = remember(string.format('%.0f', next))
redis.call('SET', KEYS.counter, answer)
return answer
`,
  reply: Number,
  check: (counter: string) => counter,
  does: () => 'Incrementing',
  encode: (counter) => ({ keys: { counter }, args: { by: 1 } }),
  decode: (value) => value,
});

function operationsOn(connection: RedisConnection) {
  const runner = new OperationRunner(
    connection,
    new ScriptRunner(connection),
    new WorkInFlight(),
    connection.observer,
    { timeoutMs: 2_000 },
    [increment],
  );
  return (counter = 'n', options: OperationOptions = {}) => runner.run(increment, counter, options);
}

describe('OperationRunner', () => {
  const redis = useRedis();
  let proxy: FaultProxy;
  let connection: RedisConnection;
  let add: ReturnType<typeof operationsOn>;

  beforeEach(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    connection = connectionTo(proxy.url);
    add = operationsOn(connection);
    await add('warm-up');
  });

  afterEach(async () => {
    await connection.close();
    await proxy.stop();
  });

  it('[SC-4] takes one round trip and leaves a marker with a time to live', async () => {
    const counts = await countCommands(redis.client, async () => expect(await add()).toBe(1));
    expect(counts['evalsha']).toBe(1);
    const [marker] = await redis.client.keys('atomic:operation:*');
    const ttl = await redis.client.pttl(marker!);
    expect(ttl).toBeGreaterThan(59_000);
    expect(ttl).toBeLessThan(63_000);
  });

  it('[SC-1] sends no text of a script to a server that forgot it before the connection was made', async () => {
    await redis.client.script('FLUSH');
    const fresh = connectionTo(proxy.url);
    const first = operationsOn(fresh);
    await fresh.ready(Deadline.in(20_000));
    const counts = await countCommands(redis.client, () => first());
    await fresh.close();
    expect(counts['evalsha']).toBe(1);
    expect(counts['eval']).toBeUndefined();
  });

  it('[SC-4] takes effect once when its reply is lost, and returns that first answer', async () => {
    const lost = proxy.loseReplies(isScript);
    expect(await add()).toBe(1);
    expect(lost.count).toBe(1);
    expect(await redis.client.get('n')).toBe('1');
  });

  it('[SC-4] does nothing when a copy arrives after the original was answered', async () => {
    const late = proxy.deliverLate(300, isScript);
    expect(await add()).toBe(1);
    expect(await late.delivered).toBe(true);
    expect(await redis.client.get('n')).toBe('1');
  });

  it('[SC-4] does nothing when it arrives after its deadline', async () => {
    const late = proxy.deliverLate(600, isScript);
    void late.triggered.then(() => proxy.refuseConnections(true));
    await expect(add('n', { timeoutMs: 200 })).rejects.toThrow(OutcomeUnknownError);
    expect(await late.delivered).toBe(true);
    expect(await redis.client.get('n')).toBeNull();
  });

  it('[SC-4] keeps nothing without a marker, and reports a lost reply as unknown at once', async () => {
    expect(await add('n', { deduplicate: false })).toBe(1);
    const before = await redis.client.keys('atomic:operation:*');
    proxy.loseReplies(isScript);
    const error = await add('n', { deduplicate: false }).catch((failure: unknown) => failure);
    expect(error).toBeInstanceOf(OutcomeUnknownError);
    expect(await redis.client.get('n')).toBe('2');
    expect(await redis.client.keys('atomic:operation:*')).toEqual(before);
  });

  it('[SC-4] reports not applied when Redis was never reached', async () => {
    proxy.refuseConnections(true);
    proxy.disconnectAll();
    await waitFor('the connection is gone', () => !connection.isReady);
    await expect(add('n', { timeoutMs: 200 })).rejects.toThrow(RedisUnavailableError);
  });

  it('is refused inside a transaction, where it would run once for each attempt', async () => {
    const inside = (options?: OperationOptions) => inTransaction(() => add('n', options));
    await expect(inside()).rejects.toThrow(IllegalTransactionStateError);
    expect(await inside({ propagation: 'outside' })).toBe(1);
  });
});

describe('OperationRunner on a Cluster', () => {
  it('[SC-4] runs once when replies are lost, and ioredis does not resend it by itself', async () => {
    const behind = await startClusterBehindProxies();
    const { cluster, proxies } = behind;
    const connection = connectionTo(behind.connection, 5_000);
    const client = cluster.connect();
    try {
      const add = operationsOn(connection);
      for (const key of ['a', 'b', 'c', 'd', 'e', 'f']) {
        expect(await add(key, { timeoutMs: 5_000 })).toBe(1);
        for (const proxy of proxies) proxy.loseReplies(isScript);
        expect(await add(key, { timeoutMs: 5_000 })).toBe(2);
        for (const proxy of proxies) proxy.loseReplies(isScript);
        await expect(add(key, { deduplicate: false, timeoutMs: 5_000 })).rejects.toThrow(OutcomeUnknownError);
        for (const proxy of proxies) proxy.reset();
        expect(await client.get(key)).toBe('3');
      }
    } finally {
      client.disconnect();
      await connection.close();
      await behind.stop();
    }
  });
});
