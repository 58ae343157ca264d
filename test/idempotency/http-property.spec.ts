import { useRedis } from '../support/redis.js';
import { renderProperty, runProperty } from './http-property/run.js';

/** Another seed makes other cases. */
const SEED = Number(process.env['PROPERTY_SEED'] ?? 15);
const COMMAND = `PROPERTY_SEED=${SEED} npm test -- test/idempotency/http-property.spec.ts`;
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
    return wrong && `again: ${COMMAND}\n${wrong}`;
  };

  it('[ID-34] take effect once, and answer clients and their retries as specified', async () => {
    expect(await wrongIn(250, false)).toBe('');
  }, 180_000);

  it('behave the same in two applications without the decorator', async () => {
    expect(await wrongIn(60, true)).toBe('');
  }, 180_000);
});
