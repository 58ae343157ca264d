import type { TestingModule } from '@nestjs/testing';
import { CounterLimitError, CounterService, ReservationService, type Hold } from 'nestjs-atomic-redis';
import { fc } from '../../support/property.js';
import { startFaultProxy, type FaultProxy } from 'nestjs-atomic-redis/testing';
import { useApp } from '../../support/app.js';
import { useRedis } from '../../support/redis.js';

const LONG = { ttlMs: 600_000 };
const scripts = { match: ({ name }: { name: string }): boolean => name === 'EVALSHA' };

interface Held {
  id: string;
  quantity: number;
  /** Neither settled nor expired. */
  live: boolean;
}

/**
 * The stock as it should be: null when there is none. Ids of all holds there have been stay, to be
 * tried again.
 */
interface Model {
  available: number | null;
  holds: Held[];
}

interface Real {
  key: string;
  reservations: ReservationService;
  counters: CounterService;
  expire(id: string): Promise<void>;
  loseReply(): void;
}

/** The kinds of commands that were run. */
const done = new Set<string>();

type Command = fc.AsyncCommand<Model, Real>;

/** Compares all answers with those of the model. */
async function verify(model: Model, { key, reservations, counters }: Real): Promise<void> {
  const live = model.holds.filter(({ live: is }) => is);
  const [available, value, listed] = await Promise.all([
    reservations.available(key),
    counters.get(key),
    reservations.list(key),
  ]);
  expect(available).toBe(model.available ?? 0);
  expect(value).toBe(model.available);
  expect(new Map(listed.map(({ id, quantity }) => [id, quantity]))).toEqual(
    new Map(live.map(({ id, quantity }) => [id, quantity])),
  );
}

const command = (
  text: string,
  run: (model: Model, real: Real) => Promise<void>,
  check: (model: Readonly<Model>) => boolean = () => true,
): Command => ({
  check,
  run: async (model, real) => {
    done.add(text.replaceAll(/ -?\d+/g, ''));
    await run(model, real);
    await verify(model, real);
  },
  toString: () => text,
});

const lost = (isLost: boolean): string => (isLost ? ' (reply lost)' : '');

/** An addition to a counter that does not exist begins another one. */
const move = (model: Model, by: number): void => {
  if (by !== 0) model.available = (model.available ?? 0) + by;
};

const forgetHolds = (model: Model): void => {
  for (const held of model.holds) held.live = false;
};

const hold = (quantity: number, min: number, isLost: boolean): Command =>
  command(
    `hold ${quantity} down to ${min}${lost(isLost)}`,
    async (model, { key, reservations, loseReply }) => {
      if (isLost) loseReply();
      const left = (model.available ?? 0) - quantity;
      const answer: unknown = await reservations
        .hold(key, quantity, { ...LONG, min })
        .catch((error: unknown) => error);
      if (left < min) {
        expect(answer).toBeInstanceOf(CounterLimitError);
        return;
      }
      expect(answer).toMatchObject({ quantity, available: left });
      model.available = left;
      model.holds.push({ id: (answer as Hold).id, quantity, live: true });
    },
  );

const settle = (action: 'confirm' | 'release' | 'extend', which: number, isLost: boolean): Command =>
  command(
    `${action} ${which}${lost(isLost)}`,
    async (model, { reservations, loseReply }) => {
      if (isLost) loseReply();
      const held = model.holds[which % model.holds.length]!;
      const settled =
        action === 'extend' ? reservations.extend(held.id, 900_000) : reservations[action](held.id);
      expect(await settled).toBe(held.live);
      if (!held.live || action === 'extend') return;
      held.live = false;
      if (action === 'release') move(model, held.quantity);
    },
    ({ holds }) => holds.length > 0,
  );

const expire = (which: number): Command =>
  command(
    `expire ${which}`,
    async (model, { expire: end }) => {
      const live = model.holds.filter((held) => held.live);
      const held = live[which % live.length]!;
      await end(held.id);
      held.live = false;
      move(model, held.quantity);
    },
    ({ holds }) => holds.some(({ live }) => live),
  );

const add = (amount: number, together: boolean): Command =>
  command(`add ${amount}${together ? ' with others' : ''}`, async (model, { key, counters }) => {
    const target = (model.available ?? 0) + amount;
    const limited = amount < 0 && target < 0;
    const line = { key, amount, min: 0 };
    if (together) {
      const { applied } = await counters.addAll([{ key: `${key}:other`, amount: 1 }, line]);
      expect(applied).toBe(!limited);
    } else {
      expect(await counters.add(key, amount, { min: 0 })).toMatchObject({ limited });
    }
    if (!limited) move(model, amount);
  });

const undone = (amount: number): Command =>
  command(`add ${amount} and undo`, async (model, { key, counters }) => {
    const { undo, applied } = await counters.addUndoable(key, amount);
    expect(await undo()).toBe(true);
    if (model.available === null && applied !== 0) model.available = 0;
  });

const reset = (): Command =>
  command('reset', async (model, { key, counters }) => {
    expect(await counters.reset(key)).toBe(model.available);
    model.available = null;
    forgetHolds(model);
  });

describe('reservations, against a model', () => {
  const boot = useApp();
  const redis = useRedis();
  let proxy: FaultProxy;
  let app: TestingModule;

  beforeAll(async () => {
    proxy = await startFaultProxy({ target: redis.server });
    app = await boot({ connection: proxy.url });
  });

  afterAll(() => proxy.stop());

  it('[RS-1] [RS-2] [RS-3] [RS-4] in any order of operations, available is stock less the held amount', async () => {
    const quantity = fc.integer({ min: 1, max: 6 });
    // A new connection costs some milliseconds.
    const isLost = fc.nat(9).map((n) => n === 0);
    const which = fc.nat(50);
    const commands = fc.commands(
      [
        fc.tuple(quantity, fc.constantFrom(0, 0, 2, -3), isLost).map((args) => hold(...args)),
        fc.tuple(quantity, fc.constant(0), isLost).map((args) => hold(...args)),
        fc
          .tuple(fc.constantFrom('confirm', 'release', 'extend'), which, isLost)
          .map((args) => settle(...args)),
        which.map(expire),
        fc.tuple(fc.integer({ min: -5, max: 5 }), fc.boolean()).map((args) => add(...args)),
        fc.integer({ min: -5, max: 5 }).map(undone),
        fc.nat(3).map(reset),
      ],
      { maxCommands: 40, size: 'max' },
    );
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(fc.option(fc.nat(20)), commands, async (stock, sequence) => {
        const key = `stock ${runs++}`;
        if (stock !== null) await redis.client.set(key, stock);
        const real: Real = {
          key,
          reservations: app.get(ReservationService),
          counters: app.get(CounterService),
          expire: async (id) => {
            const member = Buffer.from(id, 'base64url').toString().split(':').slice(0, 2).join(':');
            await redis.client.zadd(`atomic:holds:{${key}}:${key}`, 'XX', 1, member);
          },
          loseReply: () => void proxy.loseReplies(scripts),
        };
        await fc.asyncModelRun(() => ({ model: { available: stock, holds: [] }, real }), sequence);
      }),
      { numRuns: 150, endOnFailure: true },
    );
    expect([...done].toSorted()).toEqual([
      'add',
      'add and undo',
      'add with others',
      'confirm',
      'confirm (reply lost)',
      'expire',
      'extend',
      'extend (reply lost)',
      'hold down to',
      'hold down to (reply lost)',
      'release',
      'release (reply lost)',
      'reset',
    ]);
  }, 120_000);
});
