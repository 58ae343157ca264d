import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Catch,
  Controller,
  HttpException,
  Post,
  Res,
  StreamableFile,
  UseFilters,
  UseInterceptors,
  type ArgumentsHost,
  type CallHandler,
  type ExceptionFilter,
  type ExecutionContext,
  type NestInterceptor,
  type Type,
} from '@nestjs/common';
import {
  Idempotent,
  InvalidArgumentError,
  OutcomeUnknownError,
  RedisUnavailableError,
  type IdempotentOptions,
} from 'nestjs-atomic-redis';
import {
  catchError,
  defer,
  map,
  of,
  retry,
  throwError,
  timeout,
  type Observable,
  type OperatorFunction,
} from 'rxjs';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { PLATFORMS, send, startApp, type Answer, type HttpApp } from './http-app.js';

interface AnyResponse extends ServerResponse {
  readonly raw?: ServerResponse;
  status(code: number): AnyResponse;
  send(body: unknown): unknown;
}

class OutOfStock extends Error {}

@Catch(OutOfStock)
class OutOfStockFilter implements ExceptionFilter {
  catch(_: OutOfStock, host: ArgumentsHost): void {
    host.switchToHttp().getResponse<AnyResponse>().status(422).send({ error: 'OUT_OF_STOCK' });
  }
}

const interceptor = (operator: OperatorFunction<unknown, unknown>): Type<NestInterceptor> => {
  class Operating implements NestInterceptor {
    intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
      return next.handle().pipe(operator);
    }
  }
  return Operating;
};

/**
 * The first request only: on a busy machine the second may take as long before its handler runs.
 */
const firstOnly = (operator: OperatorFunction<unknown, unknown>): Type<NestInterceptor> =>
  interceptor((source) => defer(() => (runs > 0 ? source : operator(source))));

const answersFirst = firstOnly(timeout({ each: 500, with: () => of({ is: 'pending' }) }));

const timesOut = firstOnly(
  timeout({ each: 500, with: () => throwError(() => new HttpException('too slow', 504)) }),
);

let runs = 0;
let gate: Promise<void> = Promise.resolve();

const fail = (error: unknown): never => {
  throw error;
};

/**
 * The acts of a handler and its surroundings, and the result of the second request with its key.
 */
interface Row {
  readonly handle: (response: AnyResponse) => unknown;
  /** The status that the first client gets. */
  readonly first: number;
  /**
   * `again`: the handler runs again. `refused`: 409, done without an answer. `held`: 503, its
   * outcome is unknown.
   */
  readonly second: 'replayed' | 'again' | 'refused' | 'held';
  readonly takesResponse?: 'alone' | 'passthrough';
  readonly above?: Type<NestInterceptor>[];
  readonly options?: IdempotentOptions<[], []>;
  /** True if the handler waits until the first client has its answer. */
  readonly isLate?: boolean;
}

const httpError = (status: number) => () => fail(new HttpException(`no ${runs}`, status));
const sends = (status: number) => (response: AnyResponse) => response.status(status).send({ runs });

const sendsPart = (error: () => Error) => (response: AnyResponse) => {
  const raw = response.raw ?? response;
  raw.statusCode = 200;
  raw.write('a part');
  fail(error());
};
/** Imitates a time-out: the filter of its error ends the response while the handler continues. */
const sendsPartAndWaits = (then: () => Promise<unknown>) => async (response: AnyResponse) => {
  const raw = response.raw ?? response;
  raw.statusCode = 200;
  raw.write('a part');
  if (runs === 1) await waitFor('the time-out', () => raw.writableEnded);
  else raw.end();
  return then();
};
const failingStream = () =>
  new StreamableFile(
    new Readable({
      read() {
        setTimeout(() => this.destroy(new Error('no file')), 10);
      },
    }),
  );

const streamFailingHalfWay = () =>
  new StreamableFile(
    Readable.from(
      (async function* () {
        yield 'a part';
        await sleep(20);
        throw new Error('no more');
      })(),
    ),
  );

const ROWS: Record<string, Row> = {
  resolves: { handle: () => ({ runs }), first: 201, second: 'replayed' },
  'resolves, and its stream fails': {
    handle: failingStream,
    first: 0,
    second: 'refused',
  },
  'resolves, and its serializer fails': {
    handle: () => ({ circular: 1n }),
    first: 500,
    second: 'refused',
  },
  'resolves, and an interceptor fails': {
    handle: () => ({ runs }),
    above: [interceptor(map(() => fail(new Error('cannot be mapped'))))],
    first: 500,
    second: 'refused',
  },
  'resolves, and is called again by retry()': {
    handle: () => ({ runs }),
    above: [interceptor(retry(2)), interceptor(map(() => fail(new Error('cannot be mapped'))))],
    first: 500,
    second: 'refused',
  },
  'throws 400': { handle: httpError(400), first: 400, second: 'replayed' },
  'throws 404': { handle: httpError(404), first: 404, second: 'replayed' },
  'throws 408': { handle: httpError(408), first: 408, second: 'again' },
  'throws 412': { handle: httpError(412), first: 412, second: 'again' },
  'throws 425': { handle: httpError(425), first: 425, second: 'again' },
  'throws 429': { handle: httpError(429), first: 429, second: 'again' },
  'throws 500': { handle: httpError(500), first: 500, second: 'again' },
  'throws 503': { handle: httpError(503), first: 503, second: 'again' },
  'throws an Error': { handle: () => fail(new Error('boom')), first: 500, second: 'again' },
  'throws a domain error that a filter maps to 422': {
    handle: () => fail(new OutOfStock()),
    first: 422,
    second: 'replayed',
  },
  'throws a retryable error of the library': {
    handle: () => fail(new RedisUnavailableError('not reached')),
    first: 503,
    second: 'again',
  },
  'throws an error of the library that is not retryable': {
    handle: () => fail(new InvalidArgumentError('options.ttlMs', 'a number', 'x')),
    first: 500,
    second: 'again',
  },
  'throws an error whose outcome is unknown': {
    handle: () => fail(new OutcomeUnknownError('no answer')),
    first: 503,
    second: 'held',
  },
  'throws an error whose outcome is unknown, with onError': {
    handle: () => fail(new OutcomeUnknownError('no answer')),
    options: { onError: 'release' },
    first: 503,
    second: 'held',
  },
  'sends 200 and throws': {
    handle: (response) => {
      sends(200)(response);
      fail(new Error('too late'));
    },
    takesResponse: 'alone',
    first: 200,
    second: 'replayed',
  },
  'sends 200 and throws below retry()': {
    handle: (response) => {
      sends(200)(response);
      fail(new Error('too late'));
    },
    takesResponse: 'alone',
    above: [interceptor(retry(2))],
    first: 200,
    second: 'replayed',
  },
  'sends 200 and throws a retryable error of the library': {
    handle: (response) => {
      sends(200)(response);
      fail(new RedisUnavailableError('not reached'));
    },
    takesResponse: 'alone',
    first: 200,
    second: 'replayed',
  },
  'sends more than can be kept with 200, and throws': {
    handle: async (response) => {
      response.status(200).send('x'.repeat(1_100_000));
      await waitFor('the end', () => (response.raw ?? response).writableEnded);
      fail(new Error('too late'));
    },
    takesResponse: 'alone',
    first: 200,
    second: 'refused',
  },
  'sends a part of a 200 and throws an Error': {
    handle: sendsPart(() => new Error('boom')),
    takesResponse: 'alone',
    first: 200,
    second: 'again',
  },
  'sends a part of a 200 and throws 404': {
    handle: sendsPart(() => new HttpException('gone', 404)),
    takesResponse: 'alone',
    first: 200,
    second: 'refused',
  },
  'sends a part of a 200 and throws a retryable error of the library': {
    handle: sendsPart(() => new RedisUnavailableError('not reached')),
    takesResponse: 'alone',
    first: 200,
    second: 'again',
  },
  'sends 503 by itself': { handle: sends(503), takesResponse: 'alone', first: 503, second: 'again' },
  'sends 429 by itself': { handle: sends(429), takesResponse: 'alone', first: 429, second: 'again' },
  'sends 409 by itself': { handle: sends(409), takesResponse: 'alone', first: 409, second: 'replayed' },
  'sends 503 after it has returned': {
    handle: (response) => void setTimeout(() => sends(503)(response), 20),
    takesResponse: 'alone',
    first: 503,
    second: 'again',
  },
  'sends a part of a 429 after it has returned, and breaks it off': {
    handle: (response) => {
      const raw = response.raw ?? response;
      if (runs > 1) return sends(200)(response);
      setTimeout(() => {
        raw.statusCode = 429;
        raw.write('a part');
        setTimeout(() => raw.destroy(), 20);
      }, 20);
      return undefined;
    },
    takesResponse: 'alone',
    first: 0,
    second: 'again',
  },
  'returns a body with status 503': {
    handle: (response) => {
      response.status(503);
      return { runs };
    },
    takesResponse: 'passthrough',
    first: 503,
    second: 'again',
  },
  'is answered for by a timeout, and resolves': {
    handle: () => ({ runs }),
    above: [answersFirst],
    isLate: true,
    first: 201,
    second: 'refused',
  },
  'is answered for by a timeout, and resolves, though it takes the response': {
    handle: () => ({ runs }),
    takesResponse: 'passthrough',
    above: [answersFirst],
    isLate: true,
    first: 201,
    second: 'refused',
  },
  'is answered for by a timeout, and throws': {
    handle: () => fail(new Error('boom')),
    above: [answersFirst],
    isLate: true,
    first: 201,
    second: 'again',
  },
  'is answered for by a timeout, and throws 409': {
    handle: httpError(409),
    above: [answersFirst],
    isLate: true,
    first: 201,
    second: 'replayed',
  },
  'is answered for by a timeout, and throws an error of http-errors with status 409': {
    handle: () => fail(Object.assign(new Error('no'), { statusCode: 409 })),
    above: [answersFirst],
    isLate: true,
    first: 201,
    second: 'refused',
  },
  'sends a part, is timed out with an error, and resolves': {
    handle: sendsPartAndWaits(async () => undefined),
    takesResponse: 'alone',
    above: [timesOut],
    first: 200,
    second: 'refused',
  },
  'sends a part, is timed out with an error, and throws': {
    handle: sendsPartAndWaits(async () => fail(new Error('boom'))),
    takesResponse: 'alone',
    above: [timesOut],
    first: 200,
    second: 'again',
  },
  'is timed out with an error, and resolves': {
    handle: () => ({ runs }),
    above: [timesOut],
    isLate: true,
    first: 504,
    second: 'refused',
  },
  'throws 409, which catchError() turns into 201': {
    handle: httpError(409),
    above: [interceptor(catchError(() => of({ is: 'caught' })))],
    first: 201,
    second: 'replayed',
  },
  'throws an Error, which catchError() turns into 201': {
    handle: () => fail(new Error('boom')),
    above: [interceptor(catchError(() => of({ is: 'caught' })))],
    first: 201,
    second: 'replayed',
  },
  'throws a retryable error of the library, which catchError() turns into 201': {
    handle: () => fail(new RedisUnavailableError('not reached')),
    above: [interceptor(catchError(() => of({ is: 'caught' })))],
    first: 201,
    second: 'again',
  },
  'throws, with onError: replay': {
    handle: () => fail(new Error('boom')),
    options: { onError: 'replay' },
    first: 500,
    second: 'replayed',
  },
  'sends more than can be kept, and throws, with onError: replay': {
    handle: async (response) => {
      response.status(409).send('x'.repeat(1_100_000));
      await waitFor('the end', () => (response.raw ?? response).writableEnded);
      fail(new Error('too late'));
    },
    takesResponse: 'alone',
    options: { onError: 'replay' },
    first: 409,
    second: 'refused',
  },
  'throws 404, with onError: release': {
    handle: httpError(404),
    options: { onError: 'release' },
    first: 404,
    second: 'again',
  },
  'throws, with onError: hold': {
    handle: () => fail(new Error('boom')),
    options: { onError: 'hold' },
    first: 500,
    second: 'held',
  },
  'throws, with an onError that decides by the error': {
    handle: () => fail(new OutOfStock()),
    options: { onError: (error) => (error instanceof OutOfStock ? 'release' : 'hold') },
    first: 422,
    second: 'again',
  },
  'throws 404, with an onError that throws': {
    handle: httpError(404),
    options: { onError: () => fail(new Error('no policy')) },
    first: 404,
    second: 'replayed',
  },
  'resolves, with an onResponse that releases': {
    handle: () => ({ runs }),
    options: {
      onResponse: ({ status, body }) => (status === 201 && body.includes('runs') ? 'release' : 'hold'),
    },
    first: 201,
    second: 'again',
  },
  'sends 503 by itself, with an onResponse that keeps it': {
    handle: sends(503),
    takesResponse: 'alone',
    options: { onResponse: () => 'replay' },
    first: 503,
    second: 'replayed',
  },
  'resolves, with an onResponse that holds': {
    handle: () => ({ runs }),
    options: { onResponse: () => 'hold' },
    first: 201,
    second: 'held',
  },
  'resolves, with an onResponse that throws': {
    handle: () => ({ runs }),
    options: { onResponse: () => fail(new Error('no policy')) },
    first: 201,
    second: 'replayed',
  },
  'resolves, and its stream fails, with an onResponse that would release': {
    handle: failingStream,
    options: { onResponse: () => 'release' },
    first: 0,
    second: 'refused',
  },
  'returns a stream with status 503 that fails half-way, with an onResponse that would hold': {
    handle: (response) => {
      if (runs > 1) return { runs };
      response.status(503);
      return streamFailingHalfWay();
    },
    takesResponse: 'passthrough',
    options: { onResponse: () => 'hold' },
    first: 0,
    second: 'again',
  },
  'resolves with more than can be kept, with an onResponse that would release': {
    handle: () => 'x'.repeat(1_100_000),
    options: { onResponse: () => 'release' },
    first: 201,
    second: 'refused',
  },
  'throws 404, with an onResponse that is not for errors': {
    handle: httpError(404),
    options: { onResponse: () => 'release' },
    first: 404,
    second: 'replayed',
  },
};

const names = Object.keys(ROWS);

@Controller()
@UseFilters(OutOfStockFilter)
class RowsController {}

names.forEach((name, i) => {
  const { handle, takesResponse, above = [], options, isLate } = ROWS[name]!;
  const prototype = RowsController.prototype as Record<string, unknown>;
  const method = `row${i}`;
  prototype[method] = async (response: AnyResponse) => {
    runs++;
    if (isLate) await gate;
    return await handle(response);
  };
  const descriptor = Object.getOwnPropertyDescriptor(prototype, method)!;
  if (takesResponse) Res({ passthrough: takesResponse === 'passthrough' })(prototype, method, 0);
  Idempotent(options)(prototype, method, descriptor as never);
  if (above.length > 0) UseInterceptors(...above)(prototype, method, descriptor);
  Post(method)(prototype, method, descriptor);
  Object.defineProperty(prototype, method, descriptor);
});

describe.each(PLATFORMS)('the outcome of a route’s run on %s', (platform) => {
  const redis = useRedis();
  let http: HttpApp;
  const stray: unknown[] = [];
  const noteStray = (reason: unknown): void => void stray.push(reason);

  beforeAll(async () => {
    http = await startApp(platform, { connection: redis.server.url }, { controllers: [RowsController] });
    process.on('unhandledRejection', noteStray);
  });

  afterAll(async () => {
    await http.app.close();
    process.off('unhandledRejection', noteStray);
    if (stray.length > 0) throw new Error('unhandled rejections', { cause: stray });
  });

  const ended = (path: string): Promise<Answer> =>
    waitFor('the run to end', async () => {
      const answer = await send(http, path);
      return !answer.body.includes('IN_FLIGHT') && answer;
    });

  it.each(names)('[ID-31] a handler that %s', async (name) => {
    const row = ROWS[name]!;
    const path = `/row${names.indexOf(name)}`;
    runs = 0;
    let letGo!: () => void;
    gate = new Promise((resolve) => (letGo = resolve));
    if (!row.isLate) letGo();
    const first = await send(http, path).catch(() => undefined);
    if (row.first > 0) expect(first).toMatchObject({ status: row.first, replayed: false });
    expect(runs).toBe(1);
    letGo();
    const second = await ended(path);
    switch (row.second) {
      case 'replayed':
        expect(second.replayed).toBe(true);
        if (!row.isLate) expect(second).toEqual({ ...first, replayed: true });
        break;
      case 'again':
        expect(second.replayed).toBe(false);
        break;
      case 'refused':
      case 'held': {
        // An interceptor above may answer for the refusal too.
        if (row.above) break;
        const code = row.second === 'held' ? 'IDEMPOTENCY_OUTCOME_UNKNOWN' : 'IDEMPOTENCY_RESULT_UNAVAILABLE';
        expect(JSON.parse(second.body)).toMatchObject({ code });
      }
    }
    expect(runs).toBe(row.second === 'again' ? 2 : 1);
  });
});
