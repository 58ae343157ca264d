import { Readable } from 'node:stream';
import {
  ConflictException,
  Controller,
  Injectable,
  Post,
  Sse,
  StreamableFile,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { AtomicRedisModule, Idempotent, OutcomeUnknownError } from 'nestjs-atomic-redis';
import { defer, EMPTY, from, retry, timeout, type Observable } from 'rxjs';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { PLATFORMS, send, startApp, type HttpApp } from './http-app.js';
import { stateOf } from '../support/idempotency-record.js';

let runs = 0;
let jobs = 0;
let gate: Promise<unknown> = Promise.resolve();

class PatientInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(retry({ count: 100, delay: 20 }));
  }
}

class RetryInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(retry(1));
  }
}

/** The stream of a handler whose caller had given up. */
let streamed: Readable | undefined;
let calls = 0;
let whenCalledAgain: () => unknown = () => undefined;

class ImpatientInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return defer(() => {
      if (++calls > 1) whenCalledAgain();
      return calls > 1 ? next.handle() : next.handle().pipe(timeout(500));
    });
  }
}

class LateRetryInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    const returned = () => waitFor('the handler', () => streamed !== undefined);
    return next.handle().pipe(retry({ count: 1, delay: () => from(returned()) }));
  }
}

@Injectable()
class Jobs {
  readonly name: string = 'jobs';

  @Idempotent({ operation: 'jobs.run', key: (id: string) => id })
  async run(_id: string): Promise<number> {
    return ++jobs;
  }

  @Idempotent({ operation: (self: Jobs) => `${self.name}.descend`, key: (id: string) => id })
  async descend(id: string): Promise<number> {
    if (id.length < 3) await this.descend(`${id}a`);
    return ++jobs;
  }

  @Idempotent({
    operation: (self: Jobs) => `${self.name}.badKey`,
    key: () => {
      throw new Error('no key');
    },
  })
  async badKey(): Promise<number> {
    return ++jobs;
  }
}

@Injectable()
class LoudJobs extends Jobs {
  override readonly name = 'loud';

  @Idempotent({ operation: 'loud.run', key: (id: string) => id })
  override async run(id: string): Promise<number> {
    return (await super.run(id)) * 10;
  }
}

@Controller('base')
class BaseController {
  constructor(readonly provider: Jobs) {}

  @Post()
  @Idempotent()
  async create(): Promise<object> {
    return { base: ++runs };
  }
}

@Controller('sub')
class SubController extends BaseController {
  @Post()
  @Idempotent()
  override async create(): Promise<object> {
    return { sub: await super.create() };
  }

  @Post('jobs')
  @Idempotent()
  async callJobs(): Promise<object> {
    return [await super.create(), await this.provider.run('a'), await this.provider.run('a')];
  }

  @Post('by-elsewhere')
  @Idempotent({ name: 'other', required: false })
  async createElsewhere(): Promise<number> {
    return ++jobs;
  }

  @Post('elsewhere')
  @Idempotent()
  async callElsewhere(): Promise<number> {
    return await this.createElsewhere();
  }

  @Post('patient')
  @UseInterceptors(PatientInterceptor)
  @Idempotent()
  async patient(): Promise<object> {
    await gate;
    return { run: ++runs };
  }

  @Post('retried')
  @UseInterceptors(RetryInterceptor)
  @Idempotent()
  async retried(): Promise<object> {
    if (++runs % 2 === 1) throw new ConflictException('at first');
    return { run: runs };
  }

  @Post('retried-unknown')
  @UseInterceptors(RetryInterceptor)
  @Idempotent()
  async retriedUnknown(): Promise<object> {
    if (++runs === 1) throw new OutcomeUnknownError('no answer');
    throw new Error('boom');
  }

  @Post('streamed')
  @UseInterceptors(RetryInterceptor, ImpatientInterceptor)
  @Idempotent()
  async streamed(): Promise<StreamableFile> {
    return await this.streamLate();
  }

  @Post('streamed-before-retry')
  @UseInterceptors(LateRetryInterceptor, ImpatientInterceptor)
  @Idempotent()
  async streamedBeforeRetry(): Promise<StreamableFile> {
    return await this.streamLate();
  }

  @Post('streamed-to-nobody')
  @UseInterceptors(ImpatientInterceptor)
  @Idempotent()
  async streamedToNobody(): Promise<StreamableFile> {
    return await this.streamLate();
  }

  private async streamLate(): Promise<StreamableFile> {
    runs++;
    await gate;
    streamed = Readable.from(['a ', 'stream']);
    return new StreamableFile(streamed);
  }

  @Post('retried-error')
  @UseInterceptors(RetryInterceptor)
  @Idempotent()
  async retriedError(): Promise<object> {
    throw new Error(`boom ${++runs}`);
  }
}

describe.each(PLATFORMS)('idempotent calls inside a request on %s', (platform) => {
  const redis = useRedis();
  let http: HttpApp;

  beforeEach(async () => {
    runs = 0;
    jobs = 0;
    calls = 0;
    streamed = undefined;
    gate = Promise.resolve();
    http = await startApp(
      platform,
      { connection: redis.server.url },
      {
        controllers: [BaseController, SubController],
        providers: [Jobs, LoudJobs],
        imports: [
          AtomicRedisModule.forRoot({ name: 'other', connection: redis.server.url, namespace: 'atomic:' }),
        ],
      },
    );
  });

  afterEach(() => http.app.close());

  it('[ID-1] a handler that calls the decorated method of its base class is one run', async () => {
    expect(await send(http, '/sub')).toMatchObject({ status: 201, body: '{"sub":{"base":1}}' });
    expect(await send(http, '/sub')).toMatchObject({ body: '{"sub":{"base":1}}', replayed: true });
    expect(runs).toBe(1);
  });

  it('[ID-1] a call without a key is part of the run, and one with a key runs once for that key', async () => {
    expect(await send(http, '/sub/jobs')).toMatchObject({ status: 201, body: '[{"base":1},1,1]' });
  });

  it('[ID-1] a call without a key is not part of another registration’s run', async () => {
    const answer = await send(http, '/sub/elsewhere');
    expect(answer.status).toBe(500);
    expect(JSON.parse(answer.body)).toMatchObject({ code: 'CONFIGURATION' });
    expect(jobs).toBe(0);
  });

  it('[ID-1] an interceptor that calls the handler again stays in the same run', async () => {
    expect(await send(http, '/sub/retried')).toEqual({ status: 201, body: '{"run":2}', replayed: false });
    expect(await send(http, '/sub/retried')).toEqual({ status: 201, body: '{"run":2}', replayed: true });
    expect(runs).toBe(2);
  });

  it('[ID-1] an interceptor that calls the handler again after a busy key claims the key again', async () => {
    let open!: () => void;
    gate = new Promise<void>((resolve) => (open = resolve));
    const both = [send(http, '/sub/patient'), send(http, '/sub/patient')];
    setTimeout(open, 200);
    const answers = await Promise.all(both);
    expect(answers.map(({ body }) => body)).toEqual(['{"run":1}', '{"run":1}']);
    expect(answers.filter(({ replayed }) => replayed)).toHaveLength(1);
  });

  it.each(['while it runs', 'once it has returned'])(
    '[ID-1] the stream of a handler whose caller gave up goes to the next call %s',
    async (when) => {
      const isRunning = when === 'while it runs';
      const path = isRunning ? '/sub/streamed' : '/sub/streamed-before-retry';
      gate = new Promise((resolve) => {
        if (isRunning) whenCalledAgain = () => resolve(undefined);
        else setTimeout(resolve, 1_500);
      });
      expect(await send(http, path)).toEqual({ status: 201, body: 'a stream', replayed: false });
      expect(await send(http, path)).toEqual({ status: 201, body: 'a stream', replayed: true });
      expect(runs).toBe(1);
    },
  );

  it('[ID-1] the stream of a handler whose caller gave up is closed if there is no next call', async () => {
    let open!: () => void;
    gate = new Promise<void>((resolve) => (open = resolve));
    expect(await send(http, '/sub/streamed-to-nobody')).toMatchObject({ status: 500 });
    open();
    await waitFor('the stream to be closed', () => streamed?.destroyed);
  });

  it('[ID-3] the handler’s last failure decides', async () => {
    expect(await send(http, '/sub/retried-error')).toMatchObject({ status: 500 });
    expect(runs).toBe(2);
    const [record] = await redis.client.keys('atomic:idempotency:*');
    expect(await stateOf(redis.client, record!)).toBe('released');
  });

  it('[ID-31] a later failure keeps the unknown outcome of an earlier call', async () => {
    expect(await send(http, '/sub/retried-unknown')).toMatchObject({ status: 500 });
    const again = await send(http, '/sub/retried-unknown');
    expect(JSON.parse(again.body)).toMatchObject({ code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
    expect(runs).toBe(2);
  });

  it('[ID-2] a route of server-sent events is refused by name when it is decorated', () => {
    expect(() => {
      class EventsController {
        @Idempotent()
        @Sse('events')
        events(): Observable<never> {
          return EMPTY;
        }
      }
      return EventsController;
    }).toThrow(/^EventsController\.events is an @Sse\(\) route/);
  });
});

describe('idempotent calls of providers', () => {
  const boot = useApp();
  const redis = useRedis();

  const start = async (...providers: (new () => unknown)[]) => {
    const module = await boot(
      { connection: redis.server.url },
      {
        imports: [
          AtomicRedisModule.forRoot({ name: 'other', connection: redis.server.url, namespace: 'atomic:' }),
        ],
        providers,
      },
    );
    return module;
  };

  beforeEach(() => {
    jobs = 0;
  });

  it('[ID-1] a method that calls the decorated one of its base class with the same key is one run', async () => {
    const module = await start(Jobs, LoudJobs);
    try {
      expect(await module.get(LoudJobs).run('a')).toBe(10);
      expect(await module.get(LoudJobs).run('a')).toBe(10);
      expect(await module.get(Jobs).run('a')).toBe(2);
    } finally {
      await module.close();
    }
  });

  it('[ID-1] a method that calls itself with another key is another run', async () => {
    const module = await start(Jobs);
    try {
      expect(await module.get(Jobs).descend('a')).toBe(3);
      expect(await module.get(Jobs).descend('aaa')).toBe(1);
    } finally {
      await module.close();
    }
  });

  it('[ID-1] an error of a callback rejects the call and is never thrown synchronously', async () => {
    const module = await start(Jobs);
    try {
      const call = module.get(Jobs).badKey();
      await expect(call).rejects.toThrow('no key');
      expect(jobs).toBe(0);
    } finally {
      await module.close();
    }
  });

  it('[ID-5] a method that two classes inherit is told apart, and two classes of one name are refused', async () => {
    abstract class Shared {
      @Idempotent({ operation: (self: Shared) => `${self.constructor.name}.run`, key: (id: string) => id })
      async run(_id: string): Promise<string> {
        return `${this.constructor.name} ${++jobs}`;
      }
    }
    const subclass = (name: string): new () => Shared => {
      const made = { [name]: class extends Shared {} }[name]!;
      Injectable()(made);
      return made;
    };
    const [First, Second, Namesake] = [subclass('First'), subclass('Second'), subclass('First')];
    const module = await start(First, Second);
    try {
      expect(await module.get(First).run('a')).toBe('First 1');
      expect(await module.get(Second).run('a')).toBe('Second 2');
      // At boot it would have been refused; this one Nest makes afterwards.
      const late = await module.get(ModuleRef).create(Namesake);
      await expect(late.run('b')).rejects.toThrow(
        /First\.run and First\.run of another class .*@Idempotent\(\{ operation/,
      );
      expect(jobs).toBe(2);
    } finally {
      await module.close();
    }
  });
});
