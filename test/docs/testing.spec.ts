import { CounterService } from 'nestjs-atomic-redis';
import { startRedisServer } from 'nestjs-atomic-redis/testing';
import { examplesOf, extract } from './examples.js';

const [test, app] = examplesOf('docs/testing.md');
const extracted = extract('docs-testing-md', [test!, app!]);

describe('docs/testing.md', () => {
  afterAll(() => extracted.remove());

  // oxlint-disable-next-line typescript/no-require-imports -- the file was made a moment ago; it is a test itself
  describe('its test', () => void require(extracted.files[0]!));

  it('shows how to give an application another connection', async () => {
    const server = await startRedisServer({ binary: process.env.TEST_REDIS_BINARY });
    try {
      // oxlint-disable-next-line typescript/no-require-imports -- the file was made a moment ago
      const { testApp } = require(extracted.files[1]!) as {
        testApp: (url: string) => Promise<import('@nestjs/testing').TestingModule>;
      };
      const module = await testApp(server.url);
      await module.init();
      expect(await module.get(CounterService).add('n', 1)).toMatchObject({ value: 1 });
      await module.close();
    } finally {
      await server.stop();
    }
  });
});
