import { Inject, Injectable, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  AtomicRedis,
  AtomicRedisModule,
  ConfigurationError,
  defineScript,
  getScriptToken,
  InjectScript,
  ScriptService,
  type ScriptFunction,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { countCommands } from '../support/command-stats.js';
import { useRedis } from '../support/redis.js';
import { addScript } from './counter-scripts.js';

const pingScript = defineScript({
  name: 'test.ping',
  keys: [],
  args: [],
  readOnly: true,
  lua: `return 'pong'`,
  reply: String,
});

@Injectable()
class Adder {
  constructor(
    @InjectScript(addScript) readonly add: ScriptFunction<typeof addScript>,
    @InjectScript(pingScript) readonly ping: ScriptFunction<typeof pingScript>,
  ) {}
}

@Module({
  imports: [AtomicRedisModule.forFeature([addScript, pingScript])],
  providers: [Adder],
  exports: [Adder],
})
class AdderModule {}

describe('AtomicRedisModule.forFeature', () => {
  const boot = useApp();
  const redis = useRedis();
  const root = () =>
    AtomicRedisModule.forRoot({
      connection: redis.server.url,
      namespace: 'atomic:',
      scripts: { checkKeys: false },
    });

  it('[OS-9] provides functions that run scripts, loaded before the first call', async () => {
    await redis.client.script('FLUSH');
    const app = await Test.createTestingModule({ imports: [AdderModule, root()] }).compile();
    await app.init();
    try {
      const { add, ping } = app.get(Adder);
      const counts = await countCommands(redis.client, async () => {
        expect(await add({ keys: { counter: 'n' }, args: { by: 2 } })).toBe(2);
        expect(await ping({})).toBe('pong');
      });
      expect(counts).toMatchObject({ evalsha: 1, evalsha_ro: 1 });
      expect(counts).not.toHaveProperty('eval');
      expect(counts).not.toHaveProperty('eval_ro');
      expect(await add({ keys: { counter: 'n' }, args: { by: 2 } }, { deduplicate: false })).toBe(4);
    } finally {
      await app.close();
    }
  });

  it('[OS-9] serves named registrations, each with its own functions', async () => {
    @Injectable()
    class Named {
      @InjectScript(addScript, 'orders') readonly add!: ScriptFunction<typeof addScript>;
      @Inject(getScriptToken(addScript)) readonly other!: ScriptFunction<typeof addScript>;
    }
    @Module({
      imports: [
        AtomicRedisModule.forFeature([addScript], 'orders'),
        AtomicRedisModule.forFeature([addScript]),
      ],
      providers: [Named],
    })
    class NamedModule {}
    const app = await boot(
      { connection: `${redis.server.url}/1`, name: 'orders' },
      { imports: [root(), NamedModule] },
    );

    const named = app.get(Named);
    const { add } = named;
    expect(await add({ keys: { counter: 'n' }, args: { by: 1 } })).toBe(1);
    expect(await redis.client.get('n')).toBeNull();
    const { other } = named;
    expect(await other({ keys: { counter: 'n' }, args: { by: 10 } })).toBe(10);
  });

  it('[OS-9] can be overridden in tests, and is part of the façade too', async () => {
    const app = await Test.createTestingModule({ imports: [AdderModule, root()] })
      .overrideProvider(getScriptToken(addScript))
      .useValue(() => 42)
      .compile();
    await app.init();
    try {
      expect(app.get(Adder).add({ keys: { counter: 'n' }, args: { by: 2 } })).toBe(42);
      expect(app.get(AtomicRedis).scripts).toBe(app.get(ScriptService));
    } finally {
      await app.close();
    }
  });

  it('[OS-9] refuses to boot with a text that is not Lua, and names script and line', async () => {
    const broken = defineScript({ ...addScript, name: 'test.broken', lua: 'local x = 1\nreturn return' });
    const booting = Test.createTestingModule({ imports: [root(), AtomicRedisModule.forFeature([broken])] })
      .compile()
      .then((app) => app.init());
    await expect(booting).rejects.toThrow(ConfigurationError);
    await expect(booting).rejects.toThrow(/test\.broken is not valid Lua: .*user_script:2/);
  });

  it('[OS-9] refuses to boot without forFeature, and with a value that is no script', async () => {
    @Module({ providers: [Adder] })
    class Forgotten {}
    await expect(Test.createTestingModule({ imports: [root(), Forgotten] }).compile()).rejects.toThrow(
      /script:test\.add/,
    );
    expect(() => AtomicRedisModule.forFeature(addScript as never)).toThrow(ConfigurationError);
    expect(() => AtomicRedisModule.forFeature([undefined as never])).toThrow(ConfigurationError);
  });
});

describe('types of own scripts', () => {
  it('[OS-10] reject a wrong key, argument or reply when they are compiled', () => {
    // Never called: the type checker is the test, which fails where a line marked as an error has
    // none.
    const calls = async (scripts: ScriptService, { add, ping }: Adder): Promise<void> => {
      const sum: number = await scripts.run(addScript, { keys: { counter: 'n' }, args: { by: 1 } });
      const pong: string = await scripts.run(pingScript, {});
      const same: number = await add({ keys: { counter: 'n' }, args: { by: 1n } });
      await ping({});
      // @ts-expect-error -- no such key
      await scripts.run(addScript, { keys: { count: 'n' }, args: { by: 1 } });
      // @ts-expect-error -- an argument is missing
      await scripts.run(addScript, { keys: { counter: 'n' }, args: {} });
      // @ts-expect-error -- the arguments are missing
      await scripts.run(addScript, { keys: { counter: 'n' } });
      // @ts-expect-error -- no argument is an object
      await add({ keys: { counter: 'n' }, args: { by: {} } });
      // @ts-expect-error -- a key is text
      await add({ keys: { counter: 1 }, args: { by: 1 } });
      // @ts-expect-error -- the reply is a number
      const text: string = await add({ keys: { counter: 'n' }, args: { by: 1 } });
      void [sum, pong, same, text];
    };
    expect(calls).toBeInstanceOf(Function);
  });
});
