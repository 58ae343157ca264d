import { connect, type Socket } from 'node:net';
import * as http2 from 'node:http2';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import type { ServerResponse } from 'node:http';
import { Controller, Post, Res, StreamableFile, type INestApplication, type Type } from '@nestjs/common';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Idempotent, type IdempotentOptions } from 'nestjs-atomic-redis';
import { RecordingBudget } from '../../lib/idempotency/http/recording-budget.js';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { PLATFORMS, send, startApp, type HttpApp } from './http-app.js';

type Handler = (response: ServerResponse) => unknown;

interface Behaviour {
  readonly takesResponse: boolean;
  readonly handle: Handler;
  readonly options?: IdempotentOptions<[], []>;
}

let runs = 0;
let gate: Promise<void> = Promise.resolve();
let openGate = (): void => undefined;
let rowsRead = 0;
let wasBroken = false;

const after = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Chunks of a text, the last of which may fail. */
async function* parts(count: number, { failAt = Infinity, everyMs = 5 } = {}): AsyncGenerator<Buffer> {
  for (let i = 0; i < count; i++) {
    if (i === failAt) throw new Error('the database went away');
    rowsRead++;
    yield Buffer.from(`part ${i};`);
    await after(everyMs);
  }
}

/** Rows that come once the gate is open. */
async function* gatedRows(): AsyncGenerator<Buffer> {
  yield Buffer.from('first;');
  await gate;
  yield* parts(3);
}

const BEHAVIOURS: Record<string, Behaviour> = {
  json: { takesResponse: false, handle: () => (runs++, { is: 'json' }) },
  chunks: {
    takesResponse: true,
    handle: (response) => {
      runs++;
      response.setHeader('X-Early', '1');
      response.write('one ');
      response.write(Buffer.from('two '));
      response.end('three');
    },
  },
  'with-length': {
    takesResponse: true,
    handle: (response) => {
      runs++;
      response.writeHead(201, { 'Content-Length': 8, 'X-Of-The-Head': 'yes' });
      response.write('12');
      response.end('345678');
    },
  },
  'head-without-message': {
    takesResponse: true,
    handle: (response) => {
      runs++;
      // As of a response that is forwarded: over HTTP/2 it has no message.
      response.writeHead(201, undefined, { 'Content-Length': 3, 'X-Of-The-Head': 'yes' });
      response.end('one');
    },
  },
  'flushed-head': {
    takesResponse: true,
    handle: async (response) => {
      runs++;
      response.statusCode = 202;
      response.flushHeaders();
      // Too late for both.
      response.statusCode = 418;
      await after(5);
      response.end('flushed');
    },
  },
  'closes-at-end': {
    takesResponse: true,
    handle: (response) => {
      runs++;
      response.removeHeader('Transfer-Encoding');
      response.write('until ');
      response.end('closed');
    },
  },
  stream: {
    takesResponse: false,
    handle: () => {
      runs++;
      return new StreamableFile(Readable.from(parts(5)));
    },
  },
  'fails-half-way': {
    takesResponse: false,
    handle: () => {
      runs++;
      return new StreamableFile(Readable.from(parts(5, { failAt: 2 })));
    },
  },
  'pipe-fails-half-way': {
    takesResponse: true,
    handle: async (response) => {
      runs++;
      await pipeline(parts(5, { failAt: 2 }), response).catch(() => undefined);
    },
  },
  'ended-without-its-source': {
    takesResponse: true,
    handle: (response) => {
      runs++;
      Readable.from(parts(5, { failAt: 2 }))
        .on('error', () => response.end())
        .pipe(response);
    },
  },
  'cut-short': {
    takesResponse: true,
    handle: (response) => {
      runs++;
      response.writeHead(200, { 'Content-Length': 10 });
      response.write('12345');
      response.destroy();
    },
  },
  'too-few-bytes': {
    takesResponse: true,
    handle: (response) => {
      runs++;
      response.writeHead(200, { 'Content-Length': 10, Connection: 'close' });
      response.end('12345');
    },
  },
  'destroyed-behind-its-end': {
    takesResponse: true,
    handle: (response) => {
      runs++;
      response.end('ended');
      setImmediate(() => response.destroy());
    },
  },
  'empty-body': { takesResponse: true, handle: (response) => (runs++, response.writeHead(204).end()) },
};

function controllerOf(path: string, isIdempotent: boolean, streams: boolean): Type {
  class TwinController {}
  const prototype = TwinController.prototype as Record<string, unknown>;
  for (const [name, { takesResponse, handle, options }] of Object.entries(BEHAVIOURS)) {
    const method = takesResponse
      ? (response: ServerResponse & { raw?: ServerResponse; hijack?(): void }) => {
          response.hijack?.();
          return handle(response.raw ?? response);
        }
      : () => handle(undefined as never);
    Object.defineProperty(prototype, name, { value: method, configurable: true, writable: true });
    if (takesResponse) Res()(prototype, name, 0);
    const descriptor = Object.getOwnPropertyDescriptor(prototype, name)!;
    if (isIdempotent) Idempotent({ ...options, stream: streams })(prototype, name, descriptor as never);
    Post(name)(prototype, name, descriptor);
    Object.defineProperty(prototype, name, descriptor);
  }
  Controller(path)(TwinController);
  return TwinController;
}

@Controller('rows')
class RowsController {
  @Post('pipeline')
  @Idempotent()
  async rows(@Res() response: ServerResponse & { raw?: ServerResponse; hijack?(): void }): Promise<void> {
    runs++;
    response.hijack?.();
    try {
      await pipeline(gatedRows(), response.raw ?? response);
    } catch (error) {
      wasBroken = true;
      throw error;
    }
  }

  @Post('flowing')
  @Idempotent({ stream: true })
  async flowing(@Res() response: ServerResponse & { raw?: ServerResponse; hijack?(): void }): Promise<void> {
    await this.rows(response);
  }

  @Post('large')
  @Idempotent()
  async large(@Res() response: ServerResponse & { raw?: ServerResponse; hijack?(): void }): Promise<void> {
    runs++;
    response.hijack?.();
    const raw = response.raw ?? response;
    for (let i = 0; i < 40; i++) raw.write(Buffer.alloc(10_000, 'x'));
    raw.end();
  }
}

/** The same handlers without a decorator, with one, and with one that streams. */
const twinsAndRows = () => [
  controllerOf('plain', false, false),
  controllerOf('held', true, false),
  controllerOf('flowing', true, true),
  RowsController,
];

const request = (path: string, { key = 'k', version = '1.1', headers = '' } = {}): string =>
  `POST ${path} HTTP/${version}\r\nHost: x\r\nIdempotency-Key: ${key}\r\nContent-Length: 0\r\n${headers}\r\n`;

/**
 * Sends bytes on a connection of its own, and gives all that comes until the connection ends or is
 * quiet.
 */
async function bytesOf(port: number, text: string, isWhole: (got: string) => boolean): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.setEncoding('latin1');
  let got = '';
  let isClosed = false;
  socket.on('data', (data: string) => (got += data)).on('error', () => undefined);
  socket.on('close', () => (isClosed = true));
  socket.write(text);
  await waitFor('the response', () => isClosed || isWhole(got));
  // Waits for possible further bytes.
  await after(50);
  socket.destroy();
  return withoutDates(got) + (isClosed ? '<closed>' : '');
}

const withoutDates = (text: string): string => text.replaceAll(/date: [^\r]*/gi, 'Date');

/** Each body in chunks as one, with a mark where its last chunk came. */
const withChunksJoined = (text: string): string =>
  text.replaceAll(/(?<=\r\n\r\n)(?:[0-9a-f]+\r\n[^\r]*\r\n)+/g, (chunks) =>
    chunks.replaceAll(/([0-9a-f]+)\r\n([^\r]*)\r\n/g, (_, size: string, data: string) =>
      size === '0' ? '<last chunk>' : data,
    ),
  );

const responsesIn = (got: string): number => got.split(/HTTP\/1\.1 \d{3}/).length - 1;

/** The end of a response to a request behind which another was sent. */
const hasTwo = (got: string): boolean => responsesIn(got) >= 2 && got.endsWith('{"is":"json"}');

async function open(port: number, text: string): Promise<{ socket: Socket; got: () => string }> {
  const socket = connect(port, '127.0.0.1');
  let got = '';
  socket.on('data', (data) => (got += data.toString('latin1'))).on('error', () => undefined);
  socket.write(text);
  return { socket, got: () => got };
}

describe.each(PLATFORMS)('the wire of an idempotent response on %s', (platform) => {
  const redis = useRedis();
  let http: HttpApp;

  beforeEach(async () => {
    runs = 0;
    rowsRead = 0;
    wasBroken = false;
    gate = Promise.resolve();
    http = await startApp(
      platform,
      { connection: redis.server.url, idempotency: { maxResultBytes: 100_000 } },
      {
        controllers: twinsAndRows(),
      },
    );
  });

  afterEach(async () => {
    // A test that fails may have left a handler at the gate.
    openGate();
    await http.app.close();
    if (RecordingBudget.used > 0)
      throw new Error(`${RecordingBudget.used} bytes of the budget were not given back`);
  });

  const held = (): (() => void) => {
    gate = new Promise((resolve) => (openGate = resolve));
    return openGate;
  };

  describe.each(Object.keys(BEHAVIOURS))('%s', (name) => {
    it.each(['held', 'flowing'])(
      '[ID-30] the first client of a %s response gets the same bytes as without the decorator',
      async (how) => {
        const behind = request('/plain/json');
        const isWhole = (got: string): boolean => hasTwo(got) || got.includes('closed');
        const plain = await bytesOf(http.port, request(`/plain/${name}`) + behind, isWhole);
        const tapped = await bytesOf(http.port, request(`/${how}/${name}`) + behind, isWhole);
        // A held response is written in one turn, and Node.js 24 makes one chunk of that.
        if (how === 'held') expect(withChunksJoined(tapped)).toBe(withChunksJoined(plain));
        else expect(tapped).toBe(plain);
      },
    );
  });

  it.each(['json', 'chunks', 'with-length', 'stream'])(
    '[ID-30] a client of HTTP/1.0 gets the same bytes as without the decorator: %s',
    async (name) => {
      const never = (): boolean => false;
      const plain = await bytesOf(http.port, request(`/plain/${name}`, { version: '1.0' }), never);
      for (const how of ['held', 'flowing'])
        expect(
          await bytesOf(http.port, request(`/${how}/${name}`, { version: '1.0', key: how }), never),
        ).toBe(plain);
    },
  );

  it.each([
    ['chunks', 'one two three'],
    ['with-length', '12345678'],
    ['head-without-message', 'one'],
    ['flushed-head', 'flushed'],
    ['stream', 'part 0;part 1;part 2;part 3;part 4;'],
  ])('[ID-30] a chunked response is replayed whole: %s', async (name, body) => {
    for (const how of ['held', 'flowing']) {
      const first = await send(http, `/${how}/${name}`);
      expect(first).toMatchObject({ body, replayed: false });
      expect(await send(http, `/${how}/${name}`)).toEqual({ ...first, replayed: true });
    }
    expect(runs).toBe(2);
  });

  it.each([
    'fails-half-way',
    'pipe-fails-half-way',
    'ended-without-its-source',
    'cut-short',
    'too-few-bytes',
  ])('[ID-30] a response that broke off is neither replayed nor made again: %s', async (name) => {
    for (const how of ['held', 'flowing']) {
      await send(http, `/${how}/${name}`).catch(() => undefined);
      const again = await waitFor('the run to end', async () => {
        const answer = await send(http, `/${how}/${name}`);
        return answer.body.includes('IN_FLIGHT') ? undefined : answer;
      });
      expect(JSON.parse(again.body)).toMatchObject({ code: 'IDEMPOTENCY_RESULT_UNAVAILABLE' });
    }
    expect(runs).toBe(2);
  });

  it.each(['pipeline', 'flowing'])(
    '[ID-30] a client that disconnects does not stop the work, and a retry gets its response: %s',
    async (name) => {
      const letGo = held();
      const { socket } = await open(http.port, request(`/rows/${name}`));
      await waitFor('the handler', () => runs === 1);
      await after(50);
      socket.destroy();
      await after(100);
      letGo();
      const again = await waitFor('the run to end', async () => {
        const answer = await bytesOf(http.port, request(`/rows/${name}`), (got) => /\}$|2;$/.test(got));
        return answer.includes('Idempotency-Replayed') && answer;
      });
      expect(again).toContain('\r\n\r\nfirst;part 0;part 1;part 2;');
      expect([runs, rowsRead, wasBroken]).toEqual([1, 3, false]);
    },
  );

  it('[ID-30] bytes flow with `stream: true`, and the end is held until the response is kept', async () => {
    const letGo = held();
    const { got } = await open(http.port, request('/rows/flowing'));
    await waitFor('the first bytes', () => got().includes('first;'));
    letGo();
    await waitFor('the end', () => got().endsWith('0\r\n\r\n'));
    expect(await redis.client.keys('atomic:idempotency:*')).toHaveLength(1);
  });

  it('[ID-30] never lets bytes flow over HTTP/1.0, where a broken response looks whole', async () => {
    const letGo = held();
    const { got } = await open(http.port, request('/rows/flowing', { version: '1.0' }));
    await waitFor('the handler', () => runs === 1);
    await after(100);
    expect(got()).toBe('');
    letGo();
    await waitFor('the end', () => got().endsWith('part 2;'));
  });

  it('[ID-30] closes the connection of a response that is larger than the budget and may not flow', async () => {
    await http.app.close();
    http = await startApp(
      platform,
      {
        connection: redis.server.url,
        idempotency: { maxResultBytes: 50_000, maxRecordingBytes: 200_000 },
      },
      { controllers: [RowsController] },
    );
    const old = await bytesOf(http.port, request('/rows/large', { version: '1.0', key: 'old' }), () => false);
    expect(old).toBe('<closed>');
    const large = await bytesOf(http.port, request('/rows/large', { key: 'new' }), (got) =>
      got.endsWith('0\r\n\r\n'),
    );
    expect(large.split('x'.repeat(10_000))).toHaveLength(41);
    for (const key of ['old', 'new'])
      await waitFor('the refusal', async () =>
        (await bytesOf(http.port, request('/rows/large', { key }), (got) => got.endsWith('}'))).includes(
          'too large',
        ),
      );
    expect(runs).toBe(2);
  });
});

describe('the wire of an idempotent response over HTTP/2', () => {
  let client: http2.ClientHttp2Session;
  // Ahead of the application, which waits for its sessions.
  afterEach(() => client.destroy());
  const boot = useApp();
  const redis = useRedis();
  let app: INestApplication;

  beforeEach(async () => {
    runs = 0;
    wasBroken = false;
    gate = Promise.resolve();
    app = await boot.http(
      { connection: redis.server.url },
      {
        controllers: twinsAndRows(),
        adapter: new FastifyAdapter({ http2: true } as never),
      },
    );
    client = http2.connect((await app.getUrl()).replace('[::1]', '127.0.0.1'));
  });

  interface Got {
    readonly status: unknown;
    readonly body: string;
    readonly replayed: boolean;
    readonly isBroken: boolean;
    readonly headers: string[];
  }

  const post = async (path: string, leaveAfter?: Promise<unknown>): Promise<Got> => {
    const stream = client.request({ ':path': path, ':method': 'POST', 'idempotency-key': 'k' });
    const body: Buffer[] = [];
    let headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader = {};
    let isBroken = false;
    stream.on('response', (given) => (headers = given)).on('data', (chunk: Buffer) => body.push(chunk));
    stream.on('error', () => (isBroken = true)).on('aborted', () => (isBroken = true));
    stream.end();
    if (leaveAfter) void leaveAfter.then(() => stream.close(http2.constants.NGHTTP2_CANCEL));
    await new Promise((resolve) => stream.once('close', resolve));
    isBroken ||= stream.rstCode !== 0;
    return {
      status: headers[':status'],
      body: Buffer.concat(body).toString(),
      replayed: headers['idempotency-replayed'] === 'true',
      isBroken,
      headers: Object.keys(headers).filter((name) => name !== 'date'),
    };
  };

  it.each(Object.keys(BEHAVIOURS).filter((name) => name !== 'closes-at-end'))(
    '[ID-30] the first client gets the same response as without the decorator: %s',
    async (name) => {
      const plain = await post(`/plain/${name}`);
      for (const how of ['held', 'flowing']) {
        runs = 0;
        expect(await post(`/${how}/${name}`)).toEqual(plain);
      }
    },
  );

  it.each(['json', 'chunks', 'with-length', 'stream'])('[ID-30] replays: %s', async (name) => {
    const first = await post(`/held/${name}`);
    const again = await post(`/held/${name}`);
    expect(again).toMatchObject({ status: first.status, body: first.body, replayed: true });
    expect(runs).toBe(1);
  });

  it('[ID-30] a client that disconnects does not stop the work', async () => {
    let letGo!: () => void;
    gate = new Promise((resolve) => (letGo = resolve));
    await post(
      '/rows/pipeline',
      waitFor('the handler', () => runs === 1).then(() => after(50)),
    );
    letGo();
    const again = await waitFor('the run to end', async () => {
      const answer = await post('/rows/pipeline');
      return answer.replayed ? answer : undefined;
    });
    expect(again.body).toBe('first;part 0;part 1;part 2;');
    expect([runs, wasBroken]).toEqual([1, false]);
  });
});
