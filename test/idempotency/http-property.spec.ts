import { useRedis } from '../support/redis.js';
import { renderProperty, runProperty } from './http-property/run.js';

/** Another seed makes other cases: `HTTP_PROPERTY_SEED=7`. */
const SEED = Number(process.env['HTTP_PROPERTY_SEED'] ?? 15);
const PLATFORMS = ['express', 'fastify'] as const;

describe('random handlers in random surroundings', () => {
  const redis = useRedis();

  /** Performs cases on both platforms and tells what went wrong; nothing when all went right. */
  const wrongIn = async (cases: number, twins: boolean): Promise<string> => {
    const { url } = redis.server;
    const results = await Promise.all(
      PLATFORMS.map((platform) =>
        runProperty(platform, { url, seed: SEED, cases, abreast: 8, enough: 5, twins }, 170_000),
      ),
    );
    const wrong = results.map((result, index) => renderProperty(PLATFORMS[index]!, result)).join('');
    return wrong && `seed ${SEED}\n${wrong}`;
  };

  it('[ID-34] have their effect once, and answer clients and their retries as the design says', async () => {
    expect(await wrongIn(250, false)).toBe('');
  }, 180_000);

  it('differ in nothing between two applications without the decorator', async () => {
    expect(await wrongIn(60, true)).toBe('');
  }, 180_000);
});
