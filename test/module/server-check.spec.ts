import { Logger } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { Redis } from 'ioredis';
import { AtomicRedisModule, ConfigurationError, TransactionService } from 'nestjs-atomic-redis';
import { commandsSent } from '../../lib/connection/refused-commands.js';
import { startRedisServer, type RedisServer } from '../../lib/testing/index.js';
import { countCommands } from '../support/command-stats.js';
import { libraryCommands } from '../support/library-commands.js';
import { leastRights, PASSWORD, USER } from '../support/least-rights.js';
import { useRedis } from '../support/redis.js';

/** Starts and stops the module with this connection; returns its log and its error. */
async function boot(connection: object | string, work?: (app: TestingModule) => Promise<unknown>) {
  const lines: string[] = [];
  const spies = (['log', 'warn', 'error'] as const).map((level) =>
    jest.spyOn(Logger.prototype, level).mockImplementation((...[message]: unknown[]) => {
      if (!String(message).endsWith('dependencies initialized')) lines.push(`${level}: ${String(message)}`);
    }),
  );
  const module = await Test.createTestingModule({
    imports: [AtomicRedisModule.forRoot({ connection, namespace: 'atomic:' })],
  }).compile();
  try {
    await module.init();
    await work?.(module);
    return { lines, error: undefined };
  } catch (error) {
    return { lines, error: error as Error };
  } finally {
    await module.close();
    for (const spy of spies) spy.mockRestore();
  }
}

describe('the checks of a server at boot', () => {
  const redis = useRedis();
  const asUser = () => ({
    host: redis.server.host,
    port: redis.server.port,
    username: USER,
    password: PASSWORD,
  });

  it('[SRV-5] print kind and version in one line', async () => {
    const { lines, error } = await boot(redis.server.url);
    expect(error).toBeUndefined();
    expect(lines).toEqual([expect.stringMatching(/^log: Connected to (Redis|Valkey) \d+\.\d+\.\d+ at 127/)]);
  });

  it('[SRV-4] accept a user with the documented rights, which are no more than the library uses', async () => {
    await redis.client.call('ACL', 'SETUSER', ...leastRights());
    const { lines, error } = await boot(asUser());
    expect(error).toBeUndefined();
    expect(lines).toEqual([expect.stringContaining('log: Connected')]);

    const granted = leastRights()
      .filter((word) => word.startsWith('+'))
      .map((word) => word.slice(1).replace('|', ' ').toUpperCase());
    const connecting = ['HELLO', 'SELECT', 'PING', 'QUIT', 'CLIENT SETNAME', 'INFO'];
    const listening = ['SSUBSCRIBE', 'SUNSUBSCRIBE'];
    const ofClusters = ['CLUSTER SLOTS', 'CLUSTER INFO', 'ASKING'];
    const used = [...connecting, ...listening, ...ofClusters, ...commandsSent()];
    expect(granted.toSorted()).toEqual(used.toSorted());
  });

  it('[SRV-5] cover every command of the scripts and every other that the library sends', () => {
    const transactions = ['WATCH', 'UNWATCH', 'MULTI', 'EXEC', 'DISCARD'];
    const scripts = ['EVAL', 'EVALSHA', 'EVAL_RO', 'EVALSHA_RO', 'SCRIPT LOAD'];
    const alone = ['TIME', 'WAIT', 'BLMOVE', 'BZPOPMIN'];
    const all = new Set([...transactions, ...scripts, ...alone, ...libraryCommands()]);
    expect(commandsSent().toSorted()).toEqual([...all].toSorted());
  });

  it('[SRV-5] name missing rights in one line, and the boot continues', async () => {
    await redis.client.call('ACL', 'SETUSER', ...leastRights(), '-zadd', '-watch', '-script|load');
    const { lines, error } = await boot(asUser());
    expect(error).toBeUndefined();
    const told = lines.filter((line) => line.startsWith('error:'));
    expect(told).toEqual([expect.stringMatching(/: WATCH, SCRIPT LOAD, ZADD\. /)]);
    expect(await redis.client.ping()).toBe('PONG');
  });

  it('[SRV-5] report a namespace that is not allowed', async () => {
    await redis.client.call('ACL', 'SETUSER', ...leastRights(), 'resetkeys', '~other:*');
    const { lines } = await boot(asUser());
    expect(lines.join('\n')).toMatch(/error: .*atomic:.*WATCH/);
  });

  it('[SRV-4] expect every key to begin with the key prefix', async () => {
    const rights = leastRights().map((word) => word.replace(/^([~&])atomic:/, '$1app:atomic:'));
    await redis.client.call('ACL', 'SETUSER', ...rights.filter((word) => word !== '~app:*'));
    const { lines, error } = await boot({ ...asUser(), keyPrefix: 'app:' });
    expect(error).toBeUndefined();
    expect(lines).toEqual([expect.stringContaining('log: Connected')]);
  });

  it('[SRV-5] report a user who may not queue commands, and run nothing', async () => {
    await redis.client.call('ACL', 'SETUSER', ...leastRights(), '-multi', '-info');
    const { lines, error } = await boot(asUser());
    expect(error).toBeUndefined();
    expect(lines.join('\n')).toMatch(/error: .*: MULTI\. /);
    expect(lines.join('\n')).toMatch(/warn: .*INFO failed/);
    expect(await redis.client.dbsize()).toBe(0);
  });

  it('[SRV-5] change no data, and cost calls nothing', async () => {
    const control = new Redis(redis.server.url);
    const counts = await countCommands(control, () =>
      boot(redis.server.url, async (app) => {
        const transactions = app.get(TransactionService);
        for (let i = 0; i < 10; i++) await transactions.run(['k'], (tx) => void tx.write.set('k', i));
      }),
    );
    control.disconnect();
    // Once each for the rights and for the deadline of transactions.
    expect(counts['exec']).toBe(10 + 2);
    expect(Object.keys(counts)).toEqual(expect.not.arrayContaining(['hset', 'xadd', 'eval', 'unlink']));
    expect(await redis.client.keys('*check*')).toEqual([]);
  });

  describe('of a node of a Cluster', () => {
    let node: RedisServer;
    beforeAll(async () => {
      node = await startRedisServer({
        binary: process.env.TEST_REDIS_BINARY,
        args: ['--cluster-enabled', 'yes'],
      });
    });
    afterAll(() => node?.stop());

    it('[SRV-5] refuse a connection to that node alone', async () => {
      const { lines, error } = await boot(node.url);
      expect(error).toBeInstanceOf(ConfigurationError);
      expect(error?.message).toMatch(/node of a Cluster.*nodes/);
      expect(lines).toHaveLength(1);
    });
  });
});
