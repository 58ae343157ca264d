import { Redis } from 'ioredis';
import { defineScript, ScriptService } from '../../lib/index.js';
import { startRedisServer } from '../../lib/testing/index.js';
import { useApp } from '../support/app.js';
import { waitFor } from '../support/wait-for.js';

describe('an own script that does not end', () => {
  const boot = useApp();
  it.each([true, false])(
    '[OS-11] can be killed, because nothing is written before it; marker: %s',
    async (marker) => {
      const server = await startRedisServer({
        binary: process.env.TEST_REDIS_BINARY,
        args: ['--busy-reply-threshold', '200'],
      });
      const app = await boot({ connection: server.url, timeoutMs: 60_000 });
      const admin = new Redis(server.url, { enableReadyCheck: false });
      await admin.ping();
      const loop = defineScript({
        name: 'test.loop',
        keys: ['k'],
        args: [],
        lua: `while true do pcall(redis.call, 'GET', KEYS[1]) end`,
        reply: Number,
      });
      const running = app
        .get(ScriptService)
        .run(loop, { keys: { k: 'k' } }, { deduplicate: marker })
        .catch((error: unknown) => error);
      await waitFor('it is killed', async () => (await admin.script('KILL')) === 'OK');
      expect(await running).toMatchObject({ message: expect.stringMatching(/kill/i) as string });
      expect(await admin.keys('*')).toEqual([]);
      admin.disconnect();
      await app.close();
      await server.stop();
    },
  );
});
