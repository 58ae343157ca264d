import { Controller, Injectable, Logger, Post, Sse, type Type } from '@nestjs/common';
import { MessagePattern } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { AtomicRedisModule, ConfigurationError, Idempotent } from 'nestjs-atomic-redis';
import { EMPTY, type Observable } from 'rxjs';
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
class First {
  @Idempotent({ key: (id: string) => id, operation: 'orders.ship' })
  ship(_id: string): void {}
}

@Injectable()
class Second {
  @Idempotent({ key: (id: string) => id, operation: 'orders.ship' })
  send(_id: string): void {}
}

@Injectable()
class Elsewhere {
  @Idempotent({ key: (id: string) => id, operation: 'orders.ship', name: 'other' })
  send(_id: string): void {}
}

describe('what is found out at boot', () => {
  const redis = useRedis();

  const boot = async (parts: { controllers?: Type[]; providers?: Type[] }): Promise<void> => {
    const module = await Test.createTestingModule({
      imports: [
        AtomicRedisModule.forRoot({ connection: redis.server.url }),
        AtomicRedisModule.forRoot({ connection: redis.server.url, name: 'other' }),
      ],
      ...parts,
    }).compile();
    await module.init();
    await module.close();
  };

  it.each([
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
      /KeylessProvider\.run is not an HTTP route/,
    ],
  ])('[ID-13] refuses %s', async (_, parts, message) => {
    const refused = await boot(parts).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(ConfigurationError);
    expect(String(refused)).toMatch(message);
  });

  it('[ID-13] lets equal names in other routes, and equal operations of other registrations, be', async () => {
    const booted = boot({ controllers: [twin('a'), twin('b')], providers: [First, Elsewhere] });
    await expect(booted).resolves.toBeUndefined();
  });
});

describe('a Redis that evicts', () => {
  const redis = useRedis();

  it('[MOD-8] is warned of at boot, by its policy, and no other', async () => {
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
        const module = await Test.createTestingModule({
          imports: [AtomicRedisModule.forRoot({ connection: redis.server.url })],
        }).compile();
        await module.init();
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
