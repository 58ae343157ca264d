import { CounterService } from 'nestjs-atomic-redis';
import { startRedisServer } from 'nestjs-atomic-redis/testing';
import { examplesOf, extract } from './examples.js';

const examples = examplesOf('docs/testing.md');
const extracted = extract('docs-testing-md', examples);
const [unit, whole, faults, app] = extracted.files;

describe('docs/testing.md', () => {
  afterAll(() => extracted.remove());

  // oxlint-disable-next-line typescript/no-require-imports -- the file was made a moment ago; it is a test itself
  describe('the unit test', () => void require(unit!));

  // oxlint-disable-next-line typescript/no-require-imports -- likewise
  describe('the test with a server', () => void require(faults!));

  it('tests a whole application without Redis', async () => {
    // oxlint-disable-next-line typescript/no-require-imports -- the file was made a moment ago
    const { unitTestApp } = require(whole!) as {
      unitTestApp: () => Promise<import('@nestjs/testing').TestingModule>;
    };
    const module = await unitTestApp();
    await module.init();
    await expect(module.get(CounterService).add('n', 1)).rejects.toThrow(/no answer in this test/);
    await module.close();
  });

  it('gives an application another connection', async () => {
    const server = await startRedisServer({ binary: process.env.TEST_REDIS_BINARY });
    try {
      // oxlint-disable-next-line typescript/no-require-imports -- the file was made a moment ago
      const { testApp } = require(app!) as {
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
