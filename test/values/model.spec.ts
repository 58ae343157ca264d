import type { TestingModule } from '@nestjs/testing';
import { ValueService } from 'nestjs-atomic-redis';
import { fc } from '../support/property.js';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';

const isScript = { match: ({ name }: { name: string }): boolean => name === 'EVALSHA' };
const OPTIONS = { encoding: 'buffer' } as const;

/** The content of one key, or of one field, in hex. */
type Model = Record<string, string | null>;

interface Step {
  readonly text: string;
  /** The answer, and the change that comes with it. */
  readonly expected: (model: Model) => unknown;
  readonly run: (values: ValueService) => Promise<unknown>;
}

/**
 * Few different ones, for many hits: all bytes there are, texts that are equal as numbers, and
 * nothing.
 */
const bytes = fc.oneof(
  fc.constantFrom('', '0', '-0', '0.0', '1', '1e0', '\0', 'a', 'A').map((text) => Buffer.from(text)),
  fc.constantFrom(Buffer.from([0xff]), Buffer.from([0xff, 0]), Buffer.from([0xc3, 0x28])),
  fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array)),
);
const slotName = fc.constantFrom('k1', 'k2', 'h.f', 'h.g');

const hex = (value: Buffer | null): string | null => value && value.toString('hex');

const step: fc.Arbitrary<Step> = fc
  .record({
    name: slotName,
    /** `current` stands for what is there, for hits. */
    expected: fc.oneof(fc.constant('current' as const), fc.constant(null), bytes),
    next: bytes,
    kind: fc.constantFrom('set', 'delete', 'getAndSet', 'getAndDelete', 'getAndExpire'),
  })
  .map(({ name, expected: wanted, next, kind }): Step => {
    const [key = '', field] = name.split('.');
    let expected: Buffer | null = null;
    return {
      text: `${kind} ${name} ${wanted === 'current' ? wanted : hex(wanted)} ${hex(next)}`,
      expected: (model) => {
        const before = model[name] ?? null;
        const current = before === null ? null : Buffer.from(before, 'hex');
        if (field !== undefined || kind === 'set' || kind === 'delete') {
          expected = wanted === 'current' ? current : wanted;
          if (kind === 'delete') expected ??= next;
          const hit = hex(expected) === before;
          if (hit) model[name] = kind === 'delete' ? null : hex(next);
          return [hit, model[name] ?? null];
        }
        if (kind === 'getAndSet') model[name] = hex(next);
        if (kind === 'getAndDelete') model[name] = null;
        return before;
      },
      run: async (values) => {
        if (kind === 'delete') {
          const { deleted, current } = field
            ? await values.compareAndDeleteField(key, field, expected!, OPTIONS)
            : await values.compareAndDelete(key, expected!, OPTIONS);
          return [deleted, hex(current)];
        }
        if (field !== undefined || kind === 'set') {
          const { swapped, current } = field
            ? await values.compareAndSetField(key, field, expected, next, OPTIONS)
            : await values.compareAndSet(key, expected, next, OPTIONS);
          return [swapped, hex(current)];
        }
        if (kind === 'getAndSet') return hex(await values.getAndSet(key, next, OPTIONS));
        if (kind === 'getAndDelete') return hex(await values.getAndDelete(key, OPTIONS));
        return hex(await values.getAndExpire(key, { ttlMs: 1_000_000, ...OPTIONS }));
      },
    };
  });

describe('values against a model', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;
  let values: ValueService;

  beforeAll(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: proxy.url, timeoutMs: 20_000 });
    values = app.get(ValueService);
  });

  afterAll(() => proxy.stop());

  const stored = async (): Promise<Model> => ({
    k1: hex(await redis.client.getBuffer('k1')),
    k2: hex(await redis.client.getBuffer('k2')),
    'h.f': hex(await redis.client.hgetBuffer('h', 'f')),
    'h.g': hex(await redis.client.hgetBuffer('h', 'g')),
  });

  /** The answer and the stored value after each step, and the model's. */
  const replay = async (
    steps: readonly Step[],
    loses: (index: number) => boolean,
  ): Promise<Record<'real' | 'expected', unknown[]>> => {
    const real: unknown[] = [];
    const expected: unknown[] = [];
    await redis.client.flushall();
    const model: Model = { k1: null, k2: null, 'h.f': null, 'h.g': null };
    for (const [i, one] of steps.entries()) {
      if (loses(i)) proxy.loseReplies(isScript);
      expected.push([one.text, one.expected(model), { ...model }]);
      real.push([one.text, await one.run(values), await stored()]);
    }
    return { real, expected };
  };

  it('[VAL-1] [VAL-3] agree on any sequence of calls with any bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const { real, expected } = await replay(steps, () => false);
        expect(real).toEqual(expected);
      }),
      { numRuns: 100 },
    );
  }, 120_000);

  it('[VAL-5] agree when replies are lost', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(step, fc.boolean()), { minLength: 5, maxLength: 15 }),
        async (row) => {
          const steps = row.map(([one]) => one);
          const { real, expected } = await replay(steps, (i) => row[i]![1]);
          expect(real).toEqual(expected);
        },
      ),
      { numRuns: 15 },
    );
  }, 120_000);
});
