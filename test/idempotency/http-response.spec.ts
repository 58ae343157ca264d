import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  BadRequestException,
  Controller,
  HttpException,
  Post,
  RequestTimeoutException,
  Res,
  StreamableFile,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { Idempotent } from 'nestjs-atomic-redis';
import {
  catchError,
  concat,
  defer,
  EMPTY,
  of,
  throwError,
  timeout,
  TimeoutError,
  type Observable,
} from 'rxjs';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { PLATFORMS, send, sendAndLeave, startApp, type HttpApp } from './http-app.js';
import { stateOf } from '../support/idempotency-record.js';

interface AnyResponse extends ServerResponse {
  readonly raw?: ServerResponse;
  status(code: number): AnyResponse;
  send(body: unknown): unknown;
}

class TimeoutInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      timeout(600),
      catchError((error: unknown) =>
        throwError(() => (error instanceof TimeoutError ? new RequestTimeoutException() : error)),
      ),
    );
  }
}

class FallbackInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(timeout({ each: 600, with: () => of({ pending: true }) }));
  }
}

const LARGE_CHUNKS = 1_000;

let runs = 0;
let saysItEnded = false;
let chunksRead = 0;
let gate: Promise<unknown> = Promise.resolve();
let started: () => void = () => undefined;

async function work(outcome: () => unknown = () => ({ run: runs })): Promise<unknown> {
  runs++;
  started();
  await gate;
  return outcome();
}

class OddError extends HttpException {
  constructor(private readonly sent: ServerResponse) {
    super('odd', 409);
  }

  override getStatus(): number {
    if (this.sent.writableEnded) throw new Error('no status');
    return super.getStatus();
  }
}

function* chunks(): Generator<Buffer> {
  for (chunksRead = 0; chunksRead < LARGE_CHUNKS; chunksRead++) yield Buffer.alloc(65_536, 'x');
}

const fail = (error: unknown) => (): never => {
  throw error;
};

@Controller()
class ResponsesController {
  @Post('bad-message')
  @Idempotent()
  badMessage(@Res({ passthrough: true }) response: AnyResponse): object {
    (response.raw ?? response).statusMessage = 'Order ☃';
    return { run: ++runs };
  }

  @Post('twice')
  @Idempotent()
  twice(@Res() response: AnyResponse): void {
    response.status(201).send({ run: ++runs });
    const raw = response.raw ?? response;
    saysItEnded = raw.headersSent && raw.writableEnded;
    raw.setHeader('Location', '/late');
    raw.statusCode = 418;
    raw.write('late');
    response.status(202).send({ text: 'a longer body that nobody asked for' });
  }

  @Post('send-and-throw')
  @Idempotent()
  sendAndThrow(@Res() response: AnyResponse): void {
    response.status(201).send({ run: ++runs });
    throw new BadRequestException('a message of quite another length than the body');
  }

  @Post('write-and-throw')
  @Idempotent()
  writeAndThrow(@Res() response: AnyResponse): void {
    (response.raw ?? response).write(`part ${++runs}`);
    throw new BadRequestException('whole');
  }

  @Post('slow')
  @Idempotent()
  slow(): Promise<unknown> {
    return work();
  }

  @Post('timeout')
  @UseInterceptors(TimeoutInterceptor)
  @Idempotent()
  timeout(): Promise<unknown> {
    return work();
  }

  @Post('fallback')
  @UseInterceptors(FallbackInterceptor)
  @Idempotent()
  fallback(): Promise<unknown> {
    return work();
  }

  @Post('timeout-then-error')
  @UseInterceptors(TimeoutInterceptor)
  @Idempotent()
  timeoutThenError(): Promise<unknown> {
    return work(fail(new Error('boom')));
  }

  @Post('timeout-then-conflict')
  @UseInterceptors(TimeoutInterceptor)
  @Idempotent()
  timeoutThenConflict(): Promise<unknown> {
    return work(fail(new HttpException('no', 409)));
  }

  @Post('answer-and-go-on')
  @Idempotent()
  async answerAndGoOn(@Res() response: AnyResponse): Promise<void> {
    response.status(201).send({ run: runs + 1 });
    await work();
  }

  @Post('await-finish')
  @Idempotent()
  async awaitFinish(@Res() response: AnyResponse): Promise<void> {
    runs++;
    await pipeline(Readable.from([Buffer.from('run '), Buffer.from(`${runs}`)]), response.raw ?? response);
  }

  @Post('odd-error')
  @UseInterceptors(TimeoutInterceptor)
  @Idempotent()
  oddError(@Res({ passthrough: true }) response: AnyResponse): Promise<unknown> {
    return work(fail(new OddError(response.raw ?? response)));
  }

  @Post('never')
  @Idempotent({ leaseMs: 3_000 })
  never(@Res() response: AnyResponse): void {
    runs++;
    response.status(201);
  }

  @Post('forgotten')
  @Idempotent()
  forgotten(@Res() response: AnyResponse): void {
    runs++;
    setTimeout(started, 100);
    response.status(201);
  }

  @Post('late')
  @Idempotent({ leaseMs: 3_000 })
  late(@Res() response: AnyResponse): void {
    runs++;
    const raw = response.raw ?? response;
    for (let i = 0; i < 4; i++) setTimeout(() => raw.write(`${i}`), i * 1_200);
    setTimeout(() => raw.end('!'), 4_500);
  }

  @Post('error$')
  @Idempotent()
  error$(): Observable<unknown> {
    return throwError(() => new Error(`boom ${++runs}`));
  }

  @Post('conflict$')
  @Idempotent()
  conflict$(): Observable<unknown> {
    return throwError(() => new HttpException({ run: ++runs }, 409));
  }

  @Post('one$')
  @Idempotent()
  one$(): Observable<unknown> {
    return defer(() => work());
  }

  @Post('many$')
  @Idempotent()
  many$(): Observable<unknown> {
    return concat(of({ step: 1 }), of({ run: ++runs }));
  }

  @Post('empty$')
  @Idempotent()
  empty$(): Observable<unknown> {
    runs++;
    return EMPTY;
  }

  @Post('plain-empty$')
  plainEmpty$(): Observable<unknown> {
    return EMPTY;
  }

  @Post('large')
  @Idempotent()
  large(): StreamableFile {
    runs++;
    return new StreamableFile(Readable.from(chunks()));
  }
}

describe.each(PLATFORMS)('the end of an idempotent response on %s', (platform) => {
  const redis = useRedis();
  let http: HttpApp;
  let open: () => void;
  const stray: unknown[] = [];
  const noteStray = (reason: unknown): void => void stray.push(reason);

  beforeEach(async () => {
    runs = 0;
    gate = Promise.resolve();
    started = () => undefined;
    http = await startApp(
      platform,
      { connection: redis.server.url, idempotency: { maxResultBytes: 100_000 } },
      { controllers: [ResponsesController] },
    );
    process.on('unhandledRejection', noteStray);
  });

  afterEach(async () => {
    open?.();
    await http.app.close();
    process.off('unhandledRejection', noteStray);
    if (stray.length > 0) throw new Error('unhandled rejections', { cause: stray.splice(0) });
  });

  const hold = (): Promise<void> => {
    gate = new Promise<void>((resolve) => (open = resolve));
    return new Promise<void>((resolve) => (started = resolve));
  };

  const recordState = async (): Promise<string | undefined> => {
    const [record] = await redis.client.keys('atomic:idempotency:*');
    return record && (await stateOf(redis.client, record));
  };

  const isDone = async (): Promise<boolean> => (await recordState()) !== 'running';

  it('[ID-2] survives headers that Node.js refuses to send, and is replayed without them', async () => {
    await expect(send(http, '/bad-message')).rejects.toThrow('fetch failed');
    expect(await send(http, '/bad-message')).toMatchObject({
      status: 201,
      body: '{"run":1}',
      replayed: true,
    });
  });

  it.each(['/twice', '/send-and-throw'])(
    '[ID-2] is the one that a handler ended first, whatever it does afterwards: %s',
    async (path) => {
      expect(await send(http, path)).toEqual({ status: 201, body: '{"run":1}', replayed: false });
      expect(await send(http, path)).toEqual({ status: 201, body: '{"run":1}', replayed: true });
      if (path === '/twice') expect(saysItEnded).toBe(true);
    },
  );

  it('[ID-3] after a failure behind part of a body reaches the client in part, and a retry is refused', async () => {
    expect(await send(http, '/write-and-throw')).toEqual({ status: 201, body: 'part 1', replayed: false });
    const again = await send(http, '/write-and-throw');
    expect(JSON.parse(again.body)).toMatchObject({ code: 'IDEMPOTENCY_RESULT_UNAVAILABLE' });
    expect(runs).toBe(1);
  });

  it.each(['/slow', '/one$'])(
    '[ID-1] is kept for a client that has disconnected, however long the handler runs: %s',
    async (path) => {
      await sendAndLeave(http, path, hold());
      await sleep(1_500);
      expect(await recordState()).toBe('running');
      open();
      await waitFor('the run to end', isDone);
      expect(await send(http, path)).toEqual({ status: 201, body: '{"run":1}', replayed: true });
      expect(runs).toBe(1);
    },
  );

  it.each([
    ['/timeout', 408],
    ['/fallback', 201],
  ])('[ID-3] is not the answer of %s while the handler still runs', async (path, status) => {
    void hold();
    expect(await send(http, path)).toMatchObject({ status });
    expect(await send(http, path)).toMatchObject({
      status: 409,
      body: expect.stringContaining('IN_FLIGHT') as string,
    });
    open();
    await waitFor('the run to end', isDone);
    const repeat = await send(http, path);
    expect(repeat).toMatchObject({ status: 409, replayed: false });
    expect(JSON.parse(repeat.body)).toMatchObject({
      code: 'IDEMPOTENCY_RESULT_UNAVAILABLE',
      outcome: 'applied',
    });
    expect(runs).toBe(1);
  });

  it('[ID-3] releases the key when the handler fails after another component answered', async () => {
    void hold();
    expect(await send(http, '/timeout-then-error')).toMatchObject({ status: 408 });
    expect(await recordState()).toBe('running');
    open();
    await waitFor('the key to be given back', async () => (await recordState()) === 'released');
  });

  it('[ID-3] is not made again when the handler refuses after another component answered', async () => {
    void hold();
    expect(await send(http, '/timeout-then-conflict')).toMatchObject({ status: 408 });
    open();
    await waitFor('the run to end', isDone);
    expect(await send(http, '/timeout-then-conflict')).toMatchObject({ status: 409 });
    expect(runs).toBe(1);
  });

  it('[ID-4] holds the key of a handler that continues after its own answer', async () => {
    void hold();
    expect(await send(http, '/answer-and-go-on')).toMatchObject({ status: 201, body: '{"run":1}' });
    expect(await send(http, '/answer-and-go-on')).toMatchObject({ status: 409 });
    open();
    await waitFor('the run to end', isDone);
    expect(await send(http, '/answer-and-go-on')).toEqual({ status: 201, body: '{"run":1}', replayed: true });
  });

  it('[ID-2] does not hang on a handler that waits for its response to be sent', async () => {
    expect(await send(http, '/await-finish')).toMatchObject({ body: 'run 1', replayed: false });
    await waitFor('the run to end', isDone);
    expect(await send(http, '/await-finish')).toMatchObject({ body: 'run 1', replayed: true });
  });

  it('[ID-3] holds the key of a failure that cannot be inspected', async () => {
    void hold();
    expect(await send(http, '/odd-error')).toMatchObject({ status: 408 });
    open();
    await waitFor('the run to end', isDone);
    const repeat = await send(http, '/odd-error');
    expect(JSON.parse(repeat.body)).toMatchObject({ code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
    expect(runs).toBe(1);
  });

  it('[ID-3] is not awaited for ever', async () => {
    await sendAndLeave(
      http,
      '/never',
      waitFor('the run to be given up', async () => runs === 1 && (await isDone())),
    );
    const repeat = await send(http, '/never');
    expect(JSON.parse(repeat.body)).toMatchObject({ code: 'IDEMPOTENCY_RESULT_UNAVAILABLE' });
    expect(runs).toBe(1);
  });

  it('[ID-3] is not awaited for a whole lease once the client has disconnected', async () => {
    await sendAndLeave(http, '/forgotten', new Promise<void>((resolve) => (started = resolve)));
    // The lease is one of half a minute.
    await waitFor('the run to be given up', isDone);
    expect(runs).toBe(1);
  });

  it('[ID-2] is awaited as long as bytes keep coming', async () => {
    expect(await send(http, '/late')).toMatchObject({ body: '0123!', replayed: false });
    expect(await send(http, '/late')).toMatchObject({ body: '0123!', replayed: true });
  });

  it('[ID-3] treats the error of an Observable like that of a promise', async () => {
    expect(await send(http, '/error$')).toMatchObject({ status: 500 });
    expect(await recordState()).toBe('released');
    expect(await send(http, '/error$')).toMatchObject({ status: 500 });
    expect(runs).toBe(2);
    const first = await send(http, '/conflict$');
    expect(await send(http, '/conflict$')).toEqual({ ...first, replayed: true });
  });

  it('[ID-2] of an Observable contains the same values that Nest sends', async () => {
    expect(await send(http, '/many$')).toEqual({ status: 201, body: '{"run":1}', replayed: false });
    expect(await send(http, '/many$')).toEqual({ status: 201, body: '{"run":1}', replayed: true });
    const { status, body } = await send(http, '/plain-empty$');
    expect(await send(http, '/empty$')).toEqual({ status, body, replayed: false });
    await send(http, '/empty$');
    expect(runs).toBe(2);
  });

  it('[ID-3] flows at the client’s pace when the body is large', async () => {
    const response = await fetch(`http://127.0.0.1:${http.port}/large`, {
      method: 'POST',
      headers: { 'idempotency-key': 'k' },
    });
    const reader = response.body!.getReader();
    await sleep(300);
    expect(chunksRead).toBeLessThan(LARGE_CHUNKS / 2);
    let size = 0;
    for (let next = await reader.read(); !next.done; next = await reader.read()) size += next.value.length;
    expect(size).toBe(LARGE_CHUNKS * 65_536);
    expect(await send(http, '/large')).toMatchObject({
      status: expect.any(Number) as number,
      replayed: false,
    });
    expect(runs).toBe(1);
  });

  it('[MOD-6] is awaited by shutdown even if the client has disconnected', async () => {
    await sendAndLeave(http, '/slow', hold());
    setTimeout(open, 300);
    await http.app.close();
    expect(await recordState()).toBe('done');
  });
});
