import type { TestingModule } from '@nestjs/testing';
import { fc } from '../support/property.js';
import { ShadowEmptyError, ShadowKeyService } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { startApp } from './app.js';

type Value = Readonly<Record<string, string>>;

interface State {
  live: Value;
  previous: Value;
  version: bigint | undefined;
}

type Step =
  | { kind: 'rollback' }
  | {
      kind: 'replace';
      value: Value;
      options: {
        version: bigint | undefined;
        keepPrevious: boolean;
        onEmpty: 'refuse' | 'delete';
        mode: 'rename' | 'copy';
      };
    };

/** The documented behaviour. */
function step(state: State, made: Step): { answer: boolean | 'empty'; state: State } {
  const { live, previous, version } = state;
  if (made.kind === 'rollback') {
    if (Object.keys(previous).length === 0) return { answer: false, state };
    return { answer: true, state: { live: previous, previous: {}, version } };
  }
  const { value, options } = made;
  if (Object.keys(value).length === 0 && options.onEmpty === 'refuse') return { answer: 'empty', state };
  if (options.version !== undefined && version !== undefined && options.version < version)
    return { answer: false, state };
  return {
    answer: true,
    state: {
      live: value,
      previous: options.keepPrevious ? live : {},
      version: options.version ?? version,
    },
  };
}

const steps = fc.array(
  fc.oneof(
    { weight: 1, arbitrary: fc.constant<Step>({ kind: 'rollback' }) },
    {
      weight: 3,
      arbitrary: fc.record<Step & { kind: 'replace' }>({
        kind: fc.constant('replace'),
        value: fc.dictionary(fc.string(), fc.string(), { maxKeys: 3, noNullPrototype: true }),
        options: fc.record({
          version: fc.option(fc.oneof(fc.bigInt(8n, 12n), fc.bigInt(0n, 2n ** 63n - 1n)), { nil: undefined }),
          keepPrevious: fc.boolean(),
          onEmpty: fc.constantFrom('refuse', 'delete'),
          mode: fc.constantFrom('rename', 'copy'),
        }),
      }),
    },
  ),
  { minLength: 1, maxLength: 12 },
);

describe('shadow keys', () => {
  const redis = useRedis();
  let app: TestingModule;
  let shadowKeys: ShadowKeyService;

  beforeAll(async () => {
    app = await startApp(redis.server.url);
    shadowKeys = app.get(ShadowKeyService);
  });

  afterAll(() => app.close());

  const make = async (key: string, made: Step): Promise<boolean | 'empty'> => {
    if (made.kind === 'rollback') return await shadowKeys.rollback(key);
    try {
      return (await shadowKeys.replace(key, made.value, made.options)).swapped;
    } catch (error) {
      if (error instanceof ShadowEmptyError) return 'empty';
      throw error;
    }
  };

  it('[SK-4] agree with a model over any sequence of swaps and rollbacks', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(steps, async (made) => {
        const key = `k${run++}`;
        let state: State = { live: {}, previous: {}, version: undefined };
        for (const one of made) {
          const expected = step(state, one);
          expect(await make(key, one)).toBe(expected.answer);
          state = expected.state;
          expect({ ...(await redis.client.hgetall(key)) }).toEqual(state.live);
        }
      }),
      { numRuns: 60 },
    );
  });
});
