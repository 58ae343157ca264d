import {
  ConfigurationError,
  defineQueue,
  defineScript,
  InjectAtomicRedis,
  InjectQueue,
  InjectRun,
  InjectScript,
  InjectTransaction,
} from 'nestjs-atomic-redis';

const ping = defineScript({ name: 'test.ping', keys: [], args: [], lua: `return 'pong'`, reply: String });

describe('the decorators that inject', () => {
  it.each([
    ['InjectAtomicRedis', () => InjectAtomicRedis()],
    ['InjectScript', () => InjectScript(ping)],
    ['InjectQueue', () => InjectQueue(defineQueue('jobs'))],
    ['InjectTransaction', () => InjectTransaction()],
    ['InjectRun', () => InjectRun()],
  ])(
    '[MOD-11] @%s() is refused before a parameter of a method, which Nest would leave undefined',
    (name, make) => {
      const misplaced = (): unknown => {
        class Orders {
          pay(@make() injected: unknown): unknown {
            return injected;
          }
        }
        return Orders;
      };
      expect(misplaced).toThrow(ConfigurationError);
      expect(misplaced).toThrow(`@${name}() stands before a parameter of Orders.pay()`);
      const placed = (): unknown => {
        class Orders {
          @make() readonly property: unknown;
          constructor(@make() readonly parameter: unknown) {}
        }
        return Orders;
      };
      expect(placed).not.toThrow();
    },
  );
});
