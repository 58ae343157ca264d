import {
  Controller,
  Inject,
  Injectable,
  Logger,
  Module,
  Post,
  Scope,
  Sse,
  UseInterceptors,
  type CallHandler,
  type DynamicModule,
  type ModuleMetadata,
  type Type,
} from '@nestjs/common';
import { APP_INTERCEPTOR, ModuleRef, RouterModule } from '@nestjs/core';
import { MessagePattern } from '@nestjs/microservices';
import { Test, type TestingModuleBuilder } from '@nestjs/testing';
import { AtomicRedisError, AtomicRedisModule, Idempotent } from 'nestjs-atomic-redis';
import { EMPTY, type Observable } from 'rxjs';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';

function twin(path: string, operation?: string): Type {
  @Controller(path)
  class TwinController {
    @Post()
    @Idempotent({ operation })
    create(): void {}
  }
  return TwinController;
}

@Controller()
class EventsController {
  // Above, so that the decorator below cannot see it.
  @Sse('events')
  @Idempotent({ required: false })
  events(): Observable<never> {
    return EMPTY;
  }
}

@Controller()
class KeylessMessages {
  @MessagePattern('orders')
  @Idempotent()
  handle(): void {}
}

@Injectable()
class KeylessProvider {
  @Idempotent()
  run(): void {}
}

@Injectable()
class NamelessService {
  @Idempotent({ key: (id: string) => id })
  async ship(_id: string): Promise<void> {}
}

/** A module for a feature that an application has several times. */
function notifierModule(
  channel: string,
  operation: string | ((self: { channel: string }) => string),
): DynamicModule {
  return {
    module: NotifierModule,
    providers: [{ provide: 'CHANNEL', useValue: channel }, notifierOf(operation)],
  };
}

class NotifierModule {}

const notifiers = new Map<unknown, Type>();

function notifierOf(operation: string | ((self: { channel: string }) => string)): Type {
  @Injectable()
  class Notifier {
    constructor(@Inject('CHANNEL') readonly channel: string) {}

    @Idempotent({ operation: operation as (self: object) => string, key: (id: string) => id })
    async send(_id: string): Promise<void> {}
  }
  if (!notifiers.has(operation)) notifiers.set(operation, Notifier);
  return notifiers.get(operation)!;
}

const byChannel = (self: { channel: string }): string => `notify.${self.channel}`;
const sameForAll = (): string => 'notify';

@Controller('here')
class SharedController {
  @Post()
  @Idempotent()
  create(): void {}
}

@Module({ controllers: [SharedController] })
class OneModule {}

@Module({ controllers: [SharedController] })
class OtherModule {}

@Injectable()
class First {
  @Idempotent({ key: (id: string) => id, operation: 'orders.ship' })
  async ship(_id: string): Promise<void> {}
}

@Injectable()
class Second {
  @Idempotent({ key: (id: string) => id, operation: 'orders.ship' })
  async send(_id: string): Promise<void> {}
}

@Injectable()
class Elsewhere {
  @Idempotent({ key: (id: string) => id, operation: 'orders.ship', name: 'other' })
  async send(_id: string): Promise<void> {}
}

abstract class Shippers {
  @Idempotent({ key: (id: string) => id, operation: 'orders.ship' })
  async ship(_id: string): Promise<void> {}
}

@Injectable()
class Fast extends Shippers {}

@Injectable()
class Slow extends Shippers {}

@Injectable({ scope: Scope.REQUEST })
class PerRequest {
  @Idempotent({ operation: 'perRequest.run', key: (id: string) => id })
  async run(_id: string): Promise<void> {}
}

@Injectable()
class Unreadable {
  get value(): never {
    throw new Error('not now');
  }
}

const TwinController = twin('twins');

describe('the checks at boot', () => {
  const redis = useRedis();

  type Parts = Pick<ModuleMetadata, 'controllers' | 'providers' | 'imports'>;

  const application = ({ imports = [], ...parts }: Parts): TestingModuleBuilder =>
    Test.createTestingModule({
      imports: [
        ...imports,
        AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' }),
        AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:', name: 'other' }),
      ],
      ...parts,
    });
  const boot = async (builder: TestingModuleBuilder): Promise<void> => {
    const module = await builder.compile();
    await module.init();
    await module.close();
  };

  it.each<[string, Parts, RegExp]>([
    [
      'a route of events',
      { controllers: [EventsController] },
      /EventsController\.events is an @Sse\(\) route/,
    ],
    [
      'two methods with one operation',
      { providers: [First, Second] },
      /Second\.send and First\.ship are both .*"orders\.ship"/,
    ],
    [
      'two classes that inherit one operation',
      { providers: [Fast, Slow] },
      /Slow\.ship and Fast\.ship are both .*"orders\.ship"/,
    ],
    [
      'two routes with one operation',
      { controllers: [twin('a', 'twins.create'), twin('b', 'twins.create')] },
      /TwinController\.create of another class of that name/,
    ],
    [
      'two controllers of one name and path',
      { controllers: [twin('a'), twin('a')] },
      /TwinController\.create of another class of that name/,
    ],
    [
      'a message handler without a key',
      { controllers: [KeylessMessages] },
      /KeylessMessages\.handle is not an HTTP route/,
    ],
    [
      'a provider’s method without a key',
      { providers: [KeylessProvider] },
      /KeylessProvider\.run is not an HTTP route.*@Idempotent\(\{ operation: 'keyless\.run', key: \(…\) => … \}\)$/,
    ],
    [
      'a provider’s method without an operation',
      { providers: [NamelessService] },
      /NamelessService\.ship is not an HTTP route.*@Idempotent\(\{ operation: 'nameless\.ship', … \}\)$/,
    ],
    [
      'two instances of one class',
      { imports: [notifierModule('email', 'notify'), notifierModule('sms', 'notify')] },
      /Notifier\.send is the idempotent operation "notify", but there are 2 instances/,
    ],
    [
      'two instances of one class under two tokens',
      {
        providers: [
          { provide: 'a', useClass: First },
          { provide: 'b', useClass: First },
        ],
      },
      /First\.ship .* there are 2 instances/,
    ],
    [
      'two instances of one class that are made in each request',
      {
        providers: [
          { provide: 'a', useClass: PerRequest },
          { provide: 'b', useClass: PerRequest },
        ],
      },
      /PerRequest\.run .* there are 2 instances/,
    ],
    [
      'two instances that Nest makes for a factory',
      {
        providers: ['a', 'b'].map((provide) => ({
          provide,
          useFactory: (ref: ModuleRef) => ref.create(First),
          inject: [ModuleRef],
        })),
      },
      /First\.ship .* there are 2 instances/,
    ],
    [
      'two instances that their callback gives one name',
      { imports: [notifierModule('email', sameForAll), notifierModule('sms', sameForAll)] },
      /Two instances of one class are both the idempotent operation "notify"/,
    ],
    [
      'a callback that gives no name',
      { imports: [notifierModule('email', () => '')] },
      /operation\(\) must be a non-empty string/,
    ],
    [
      'one controller in two modules with paths of their own',
      {
        imports: [
          OneModule,
          OtherModule,
          RouterModule.register([
            { path: 'one', module: OneModule },
            { path: 'other', module: OtherModule },
          ]),
        ],
      },
      /SharedController\.create is the route of several modules \(POST \/one\/here, POST \/other\/here\)/,
    ],
    [
      'two controllers of one path, whatever they are called',
      { controllers: [SharedController, twin('here')] },
      /TwinController\.create and SharedController\.create are both .*"POST \/here"/,
    ],
  ])('[ID-13] refuse %s', async (_, parts, message) => {
    const refused = await boot(application(parts)).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(AtomicRedisError);
    expect(String(refused)).toMatch(message);
  });

  it.each<[string, Parts]>([
    [
      'two instances that their callback names',
      { imports: [notifierModule('email', byChannel), notifierModule('sms', byChannel)] },
    ],
    [
      'one instance under two tokens',
      {
        providers: [
          First,
          { provide: 'alias', useExisting: First },
          { provide: 'same', useFactory: (one: First) => one, inject: [First] },
        ],
      },
    ],
    [
      'equal names in other routes, and equal operations of other registrations',
      { controllers: [twin('a'), twin('b')], providers: [First, Elsewhere] },
    ],
    ['a controller that is a provider too', { controllers: [TwinController], providers: [TwinController] }],
    [
      'providers of every kind',
      {
        providers: [
          Unreadable,
          PerRequest,
          { provide: 'alias', useExisting: PerRequest },
          { provide: 'class', useValue: Unreadable },
          { provide: 'null', useValue: null },
          { provide: 'text', useValue: 'text' },
          { provide: 'no prototype', useValue: Object.create(null) as object },
          { provide: 'odd constructor', useValue: { constructor: 'coach builder' } },
          { provide: 'nothing', useFactory: () => undefined },
          { provide: 'per request', useFactory: () => new Unreadable(), scope: Scope.REQUEST },
        ],
      },
    ],
  ])('[ID-13] accept %s', async (_, parts) => {
    await expect(boot(application(parts))).resolves.toBeUndefined();
  });

  class Other {
    intercept(_: unknown, next: CallHandler): Observable<unknown> {
      return next.handle();
    }
  }

  type Place = 'method' | 'type' | 'APP_INTERCEPTOR' | 'useGlobalInterceptors';

  /** Counts the interceptors of a route in an application that has another one at a place. */
  const countInterceptors = async (
    controller: Type<{ create(): Promise<void> }>,
    place?: Place,
  ): Promise<number> => {
    const providers = place === 'APP_INTERCEPTOR' ? [{ provide: APP_INTERCEPTOR, useClass: Other }] : [];
    const module = await application({ controllers: [controller], providers }).compile();
    const app = module.createNestApplication({ logger: false });
    if (place === 'useGlobalInterceptors') app.useGlobalInterceptors(new Other());
    await app.init();
    await app.close();
    const arranged = Reflect.getMetadata(
      '__interceptors__',
      controller.prototype.create as object,
    ) as unknown[];
    expect(arranged.at(-1)).not.toBe(Other);
    return arranged.length;
  };

  const arranged = (place?: Place, isForMessages = false): Type<{ create(): Promise<void> }> => {
    const on = (where: Place): MethodDecorator & ClassDecorator =>
      where === place ? UseInterceptors(Other) : () => undefined;
    @Controller('arranged')
    @on('type')
    class ArrangedController {
      @Post()
      @Idempotent({ key: () => 'key', operation: 'arranged' })
      @(isForMessages ? MessagePattern('arranged') : () => undefined)
      @on('method')
      async create(): Promise<void> {}
    }
    return ArrangedController;
  };

  it.each<[string, number, { readonly place?: Place; readonly isForMessages?: boolean }]>([
    ['no interceptor to a route without others', 0, {}],
    ['the innermost interceptor to a route that has another', 2, { place: 'method' }],
    ['an interceptor to a route whose controller has one', 1, { place: 'type' }],
    ['an interceptor to a route whose application provides one', 1, { place: 'APP_INTERCEPTOR' }],
    ['an interceptor to a route whose application uses one', 1, { place: 'useGlobalInterceptors' }],
    ['an interceptor to a message handler that is a route too', 1, { isForMessages: true }],
  ])('[ID-1] give %s', async (_, count, { place, isForMessages }) => {
    expect(await countInterceptors(arranged(place, isForMessages), place)).toBe(count);
  });

  it('[ID-1] give a controller of several applications what one of them needs', async () => {
    const shared = arranged();
    expect(await countInterceptors(shared)).toBe(0);
    expect(await countInterceptors(shared, 'useGlobalInterceptors')).toBe(1);
    expect(await countInterceptors(shared)).toBe(1);
  });

  it('[ID-13] check the override of a provider in its place', async () => {
    const overridden = () => application({ providers: [First, Fast] }).overrideProvider(First);
    await expect(boot(overridden().useValue({ ship: () => 1 }))).resolves.toBeUndefined();
    await expect(boot(overridden().useClass(Slow))).rejects.toThrow(/Fast\.ship/);
  });
});

describe('a Redis with an eviction policy', () => {
  const boot = useApp();
  const redis = useRedis();

  it('[MOD-8] causes a warning at boot that names the policy, and only then', async () => {
    const warnings: string[] = [];
    const warn = jest
      .spyOn(Logger.prototype, 'warn')
      .mockImplementation((message: string) => warnings.push(message));
    try {
      for (const [maxmemory, policy] of [
        ['0', 'allkeys-lru'],
        ['100mb', 'noeviction'],
        ['100mb', 'volatile-ttl'],
      ] as const) {
        await redis.client.config('SET', 'maxmemory', maxmemory, 'maxmemory-policy', policy);
        const module = await boot({ connection: redis.server.url });
        // QUIT is answered after all that was asked before.
        await module.close();
      }
      expect(warnings).toEqual([expect.stringContaining('maxmemory-policy volatile-ttl')]);
    } finally {
      warn.mockRestore();
      await redis.client.config('SET', 'maxmemory', '0', 'maxmemory-policy', 'noeviction');
    }
  });
});
