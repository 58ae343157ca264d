import { useRedis } from '../support/redis.js';
import { renderProperty, runProperty } from './http-property/run.js';

/** Another seed makes other cases: `HTTP_PROPERTY_SEED=7`. */
const SEED = Number(process.env['HTTP_PROPERTY_SEED'] ?? 15);

describe.each(['express', 'fastify'] as const)('random handlers in random surroundings on %s', (platform) => {
  const redis = useRedis();

  it('have their effect once, and answer clients and their retries as the design says', async () => {
    const { server } = redis;
    const options = { url: server.url, seed: SEED, cases: 300, abreast: 8, enough: 5 };
    const result = await runProperty(platform, options, 170_000);
    const wrong = renderProperty(platform, result);
    expect(wrong && `seed ${SEED}\n${wrong}`).toBe('');
    expect(result.cases).toBe(300);
  }, 180_000);

  it('are the same on both sides where neither has the decorator', async () => {
    const { server } = redis;
    const options = { url: server.url, seed: SEED, cases: 100, abreast: 8, enough: 5, twins: true };
    const result = await runProperty(platform, options, 170_000);
    const wrong = renderProperty(platform, result);
    expect(wrong && `seed ${SEED}\n${wrong}`).toBe('');
  }, 180_000);
});
