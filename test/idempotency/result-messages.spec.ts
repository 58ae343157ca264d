import { jsonCodec } from '../../lib/idempotency/result-codec.js';
import { storedValue } from '../../lib/idempotency/stored-result.js';
import { Logger } from '@nestjs/common';

class Money {}

const circle: { self?: unknown } = {};
circle.self = circle;

describe('the message of a result that cannot be kept', () => {
  it.each<[string, unknown]>([
    ['result is an instance of Date', new Date()],
    ['result.at is an instance of Date', { id: 1, at: new Date() }],
    ['result.items[1].price is an instance of Money', { items: [{ price: 1 }, { price: new Money() }] }],
    ['result.total is a bigint', { total: 1n }],
    ['result.rate is NaN', { rate: Number.NaN }],
    ['result.tags is an instance of Set', { none: undefined, tags: new Set() }],
    ['result.self is an object inside itself', circle],
    ['result.when is an object with toJSON()', { when: { toJSON: () => 1 } }],
    ['result[0] is undefined', [undefined]],
    ['result.call is a function', { call: () => 1 }],
  ])('[ID-3] names the property and the type: %s', (expected, value) => {
    expect(() => jsonCodec.encode(value)).toThrow(`${expected}, which JSON would not give back`);
  });

  it('[ID-3] names the operation', () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation();
    try {
      storedValue({ at: new Date() }, jsonCodec, 1_000, { operation: 'orders.ship' });
      expect(warn).toHaveBeenCalledWith(
        expect.stringMatching(
          /The result of orders\.ship cannot be kept.* result\.at is an instance of Date/,
        ),
      );
      storedValue({ at: new Date() }, jsonCodec, 1_000, { operation: 'orders.ship', isMissed: false });
      expect(warn).toHaveBeenCalledTimes(1);
    } finally {
      warn.mockRestore();
    }
  });

  it('[ID-3] inspects each part only a few times, however deeply it is nested', () => {
    let looks = 0;
    const deepest = {
      get rate() {
        looks++;
        return Number.NaN;
      },
    };
    let value: unknown = deepest;
    for (let depth = 0; depth < 500; depth++) value = { in: [value] };
    expect(() => jsonCodec.encode(value)).toThrow(/^result\.in\[0\]\.in\[0\].*\.rate is NaN, which JSON/);
    expect(looks).toBeLessThan(10);
  });
});
