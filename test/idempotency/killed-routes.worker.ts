import type { AddressInfo, Server } from 'node:net';
import {
  Body,
  Controller,
  createParamDecorator,
  HttpCode,
  Inject,
  Injectable,
  Module,
  Param,
  ParseIntPipe,
  Post,
  Res,
  Scope,
  UseInterceptors,
  type ExecutionContext,
  type NestInterceptor,
  type PipeTransform,
} from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { Redis } from 'ioredis';
import { map } from 'rxjs';
import {
  AtomicRedisModule,
  Idempotent,
  IdempotentRun,
  InjectRun,
  type IdempotencyOptions,
  type StepProbe,
} from '../../lib/index.js';
import { createApplication, type PLATFORMS } from '../nest/platforms.js';
import { worker } from '../support/worker.js';

export interface KilledRoutesJob {
  url: string;
  platform: (typeof PLATFORMS)[number];
  /** In its first life the process stands still in every route, to be killed. */
  life: 'first' | 'second';
}

/** Where the code of a route may ask for its run, beside the method itself. */
const Asked = createParamDecorator(
  (_, context: ExecutionContext): string => context.switchToHttp().getRequest<{ asked: string }>().asked,
);

/** Serves routes whose runs the test kills between two steps, or inside of one. */
worker<KilledRoutesJob>(async ({ data: { url, platform, life }, send }) => {
  const redis = new Redis(url);

  /** Tells where the route is. In the first life it goes no further. */
  const pass = async (route: string): Promise<void> => {
    if (life === 'second') return;
    send(route);
    await new Promise(() => undefined);
  };

  /** Throws, hangs and answers nonsense before it answers. */
  const probing = <Probe>(finding: unknown): Probe => {
    const moods = [
      () => Promise.reject(new Error('the bank is away')),
      () => new Promise(() => undefined),
      () => 'perhaps',
    ];
    return (async () => await (moods.shift()?.() ?? finding)) as Probe;
  };

  @Injectable()
  class Payments {
    @InjectRun() readonly run!: IdempotentRun;

    async pay(route: string, input: object = {}): Promise<object> {
      const { run } = this;
      const before = [run.attempt, run.resumed];
      const stock = await run.step('reserve', () => ({ left: 3, by: process.pid }));
      const charge = await run.step('charge', async ({ key }) => {
        await redis.rpush('charges', key);
        return key;
      });
      await pass(route);
      await run.step('mail', () => undefined);
      const { attempt, resumed } = run;
      return { before, attempt, resumed, by: stock.by, charge, key: run.keyFor('charge'), ...input };
    }

    @Idempotent({ key: (id: string) => id, operation: 'payments.resolve' })
    async resolve(id: string): Promise<object> {
      return await this.pay(id);
    }
  }

  /** The code of the error that the run throws where there is none. */
  const codeOf = (run: IdempotentRun): string => {
    try {
      return `attempt ${run.attempt}`;
    } catch (error) {
      return (error as { code: string }).code;
    }
  };

  @Injectable()
  class Around implements NestInterceptor {
    constructor(@InjectRun() private readonly run: IdempotentRun) {}

    intercept(context: ExecutionContext, next: Parameters<NestInterceptor['intercept']>[1]) {
      context.switchToHttp().getRequest<{ asked: string }>().asked = codeOf(this.run);
      return next.handle().pipe(map((value: object) => ({ ...value, after: codeOf(this.run) })));
    }
  }

  @Injectable()
  class Pipe implements PipeTransform {
    constructor(@InjectRun() private readonly run: IdempotentRun) {}

    transform(body: object): object {
      return { ...body, pipe: codeOf(this.run) };
    }
  }

  @Controller()
  class Plain {
    constructor(private readonly payments: Payments) {}

    @Post('plain')
    @HttpCode(200)
    @Idempotent()
    async plain(): Promise<object> {
      return await this.payments.pay('plain');
    }

    @Post('around/:id')
    @Idempotent()
    @UseInterceptors(Around)
    async around(
      @Param('id', ParseIntPipe) id: number,
      @Asked() asked: string,
      @Body(Pipe) body: object,
      @Res({ passthrough: true }) response: { header(name: string, value: string): unknown },
    ): Promise<object> {
      response.header('location', `/around/${id}`);
      return await this.payments.pay('around/7', { id, asked, body });
    }

    // As a resolver does: the route itself is not idempotent, the method that it calls is.
    @Post('resolver')
    async resolver(): Promise<object> {
      return await this.payments.resolve('resolver');
    }
  }

  @Controller({ path: 'scoped', scope: Scope.REQUEST })
  class Scoped {
    constructor(
      @Inject(REQUEST) private readonly request: object,
      @InjectRun() private readonly run: IdempotentRun,
      private readonly payments: Payments,
    ) {}

    @Post()
    @Idempotent()
    async scoped(): Promise<object> {
      return await this.payments.pay('scoped', { key: this.run.keyFor('charge'), has: !!this.request });
    }
  }

  @Controller()
  class Interrupted {
    constructor(@InjectRun() private readonly run: IdempotentRun) {}

    @Post('held')
    @Idempotent()
    async held(): Promise<object> {
      return { sent: await this.run.step('send', () => this.send('held'), { onInterrupted: 'hold' }) };
    }

    @Post('probed')
    @Idempotent()
    async probed(): Promise<object> {
      const options = { onInterrupted: Interrupted.stepProbe };
      return { sent: await this.run.step('send', () => this.send('probed'), options), by: this.run.attempt };
    }
    private static readonly stepProbe = probing<StepProbe<string>>({ result: 'found' });

    @Post('abandoned')
    @Idempotent({
      onAbandoned: probing<Exclude<IdempotencyOptions['onAbandoned'], string | undefined>>({
        response: { status: 202, headers: { location: '/7' }, body: { id: 7 } },
      }),
    })
    async abandoned(): Promise<object> {
      return { sent: await this.send('abandoned') };
    }

    private async send(route: string): Promise<string> {
      await redis.rpush('sent', route);
      await pass(route);
      return 'again';
    }
  }

  @Module({
    imports: [
      AtomicRedisModule.forRoot({
        connection: url,
        namespace: 'atomic:',
        idempotency: { leaseMs: 2_000, probeTimeoutMs: 200 },
      }),
    ],
    controllers: [Plain, Scoped, Interrupted],
    providers: [Payments],
  })
  class AppModule {}

  const module = await Test.createTestingModule({ imports: [AppModule] }).compile();
  const app = createApplication(module, platform);
  app.useLogger(false);
  await app.listen(0, '127.0.0.1');
  send(((app.getHttpServer() as Server).address() as AddressInfo).port);
  await new Promise(() => undefined);
});
