import { createServer, type ServerResponse } from 'node:http';
import * as http2 from 'node:http2';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { RecordingBudget } from '../../lib/idempotency/http/recording-budget.js';
import type { Ended, Recorder } from '../../lib/idempotency/http/response-recorder.js';
import { ResponseTap } from '../../lib/idempotency/http/response-tap.js';
import { waitFor } from '../support/wait-for.js';

/** Keeps the recording of a tap, and holds the end of the response until `letGo`. */
class HoldingRecorder implements Recorder {
  readonly maxBytes = 1_000;
  readonly budget = new RecordingBudget(10_000);
  readonly replayHeaders = ['content-type', 'content-language'];
  readonly endings: Ended[] = [];
  readonly losses: string[] = [];
  hasGone = false;
  /** True if the response counts as the handler's. */
  owns = true;
  letGo!: () => void;
  private readonly kept = new Promise<void>((resolve) => (this.letGo = resolve));

  constructor(readonly streams = false) {}

  isOwn(): boolean {
    return this.owns;
  }

  ended(ended: Ended): Promise<void> {
    this.endings.push(ended);
    return this.kept;
  }

  lost(how: string): void {
    this.losses.push(how);
  }

  gone(): void {
    this.hasGone = true;
  }

  wrote(): void {}

  get bodies(): (string | undefined)[] {
    return this.endings.map(({ response }) => response?.body.toString());
  }
}

const recorded = (response: ServerResponse, streams = false): HoldingRecorder => {
  const recorder = new HoldingRecorder(streams);
  ResponseTap.of(response, recorder);
  return recorder;
};

/** The body that a client gets when `handle` answers it. */
async function bodyOf(handle: (response: ServerResponse) => void): Promise<string> {
  const server = createServer((_, response) => handle(response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const { port } = server.address() as AddressInfo;
    return await (await fetch(`http://127.0.0.1:${port}`, { signal: AbortSignal.timeout(5_000) })).text();
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** A client of one response, on a connection of its own. */
interface Client {
  readonly response: ServerResponse;
  readonly socket: Socket;
  /** Returns the received text. */
  readonly got: () => string;
}

/** Serves one request by `handle`, and has `use` look at it from both ends. */
async function withClient(
  handle: (response: ServerResponse) => void,
  use: (client: Client) => Promise<void>,
): Promise<void> {
  let response: ServerResponse | undefined;
  const server = createServer((_, given) => handle((response = given)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  let text = '';
  socket.on('data', (data) => (text += data.toString('latin1'))).on('error', () => undefined);
  socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
  try {
    await waitFor('the request', () => response !== undefined);
    await use({ response: response!, socket, got: () => text });
  } finally {
    socket.destroy();
    server.closeAllConnections();
    server.close();
  }
}

/** The same over HTTP/2. */
async function bodyOfHttp2(handle: (response: ServerResponse) => void): Promise<string> {
  const server = http2.createServer((_, response) => handle(response as unknown as ServerResponse));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const client = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  try {
    const body: Buffer[] = [];
    for await (const chunk of client.request({ ':path': '/' })) body.push(chunk as Buffer);
    return Buffer.concat(body).toString();
  } finally {
    client.destroy();
    server.close();
  }
}

const PROTOCOLS = [
  ['HTTP/1', bodyOf],
  ['HTTP/2', bodyOfHttp2],
] as const;

/** Acts like middleware that changes bodies: it puts its own `end` onto the response. */
function wrapEnd(response: ServerResponse, mark: string): void {
  const { end } = response;
  const wrapped = (chunk: Buffer): unknown => Reflect.apply(end, response, [`${mark}(${String(chunk)})`]);
  Object.assign(response, { end: wrapped });
}

describe('the tap of a response', () => {
  afterEach(async () => {
    await waitFor('the budget to be given back', () => RecordingBudget.used === 0);
  });

  it('[ID-2] records the input of middleware registered before it and the output of middleware registered after it', async () => {
    let recorder!: HoldingRecorder;
    const body = await bodyOf((response) => {
      wrapEnd(response, 'before');
      recorder = recorded(response);
      wrapEnd(response, 'after');
      response.end('body');
      recorder.letGo();
    });
    expect(recorder.bodies).toEqual(['after(body)']);
    expect(body).toBe('before(after(body))');
  });

  it.each(['held', 'flowing'])(
    '[ID-2] records the head of a %s response from before middleware changed it',
    async (how) => {
      let recorder!: HoldingRecorder;
      await bodyOf((response) => {
        const { flushHeaders } = response;
        response.flushHeaders = () => {
          response.setHeader('content-language', 'de');
          response.removeHeader('content-length');
          Reflect.apply(flushHeaders, response, []);
        };
        recorder = recorded(response, how === 'flowing');
        response.setHeader('content-type', 'text/plain');
        response.setHeader('content-length', 4);
        response.flushHeaders();
        response.end('body');
        recorder.letGo();
      });
      const { response } = recorder.endings[0]!;
      expect(response).toMatchObject({
        headers: { 'content-type': 'text/plain' },
        body: Buffer.from('body'),
      });
      expect(response!.headers).not.toHaveProperty('content-language');
    },
  );

  it.each<[string, (response: ServerResponse) => unknown]>([
    ['a 204', (response) => response.writeHead(204)],
    ['a Content-Length of 0', (response) => response.writeHead(200, { 'content-length': 0 })],
  ])('[ID-30] holds a response that consists of its head alone: %s', async (_, begin) => {
    let recorder!: HoldingRecorder;
    let response!: ServerResponse;
    const answered = bodyOf((each) => {
      response = each;
      recorder = recorded(response, true);
      begin(response);
      response.flushHeaders();
    }).then(() => 'answered');
    expect(await Promise.race([answered, sleep(300, 'waiting')])).toBe('waiting');
    response.end();
    recorder.letGo();
    expect(await answered).toBe('answered');
    expect(recorder.bodies).toEqual(['']);
  });

  it('[ID-2] records a response of HTTP/2', async () => {
    let recorder!: HoldingRecorder;
    const body = await bodyOfHttp2((response) => {
      recorder = recorded(response);
      response.end('body');
      recorder.letGo();
    });
    expect(body).toBe('body');
    expect(recorder.bodies).toEqual(['body']);
  });

  it('[ID-2] lets two routes record one response, each before the client gets it', async () => {
    let recorders: HoldingRecorder[] = [];
    let gotAt = 0;
    let letGoAt = 0;
    const body = await bodyOf((response) => {
      recorders = [recorded(response), recorded(response)];
      response.end('body');
      recorders[1]!.letGo();
      setTimeout(() => {
        letGoAt = performance.now();
        recorders[0]!.letGo();
      }, 50);
    }).finally(() => (gotAt = performance.now()));
    expect(body).toBe('body');
    expect(recorders.map(({ bodies }) => bodies)).toEqual([['body'], ['body']]);
    expect(gotAt).toBeGreaterThan(letGoAt);
  });

  it.each(PROTOCOLS)(
    '[ID-2] makes a held response look sent to the application: %s',
    async (protocol, bodyBy) => {
      const said: unknown[] = [];
      let isFinished = false;
      const refused: unknown[] = [];
      await bodyBy((response) => {
        const say = (): unknown => said.push([response.headersSent, response.writableEnded]);
        const recorder = recorded(response);
        say();
        response.write('part');
        say();
        response.end('end');
        say();
        isFinished = response.finished;
        for (const changeHead of [
          () => response.setHeader('Location', '/late'),
          () => response.appendHeader('Location', '/late'),
          () => response.removeHeader('Location'),
          () => response.writeHead(200),
        ]) {
          try {
            changeHead();
          } catch (error) {
            refused.push((error as { code?: unknown }).code);
          }
        }
        said.push(response.getHeader('location'));
        recorder.letGo();
        response.on('finish', say);
      });
      expect(said).toEqual([[false, false], [true, false], [true, true], undefined, [true, true]]);
      const code = protocol === 'HTTP/1' ? 'ERR_HTTP_HEADERS_SENT' : 'ERR_HTTP2_HEADERS_SENT';
      expect(refused).toEqual([code, code, code, code]);
      if (protocol === 'HTTP/1') expect(isFinished).toBe(true);
    },
  );

  it.each(PROTOCOLS)(
    '[ID-2] tells middleware between end() and the socket, such as compression, that nothing was sent: %s',
    async (_, bodyBy) => {
      const said: unknown[] = [];
      const body = await bodyBy((response) => {
        const { end } = response;
        const say = (): unknown => said.push([response.headersSent, response.writableEnded]);
        const compress = (chunk: Buffer): unknown => {
          say();
          if (!response.headersSent) response.writeHead(200);
          say();
          return Reflect.apply(end, response, [`compressed(${String(chunk)})`]);
        };
        Object.assign(response, { end: compress });
        const recorder = recorded(response);
        response.end('body');
        recorder.letGo();
      });
      expect(body).toBe('compressed(body)');
      expect(said).toEqual([
        [false, false],
        [true, false],
      ]);
    },
  );

  it.each(PROTOCOLS)(
    '[ID-30] makes a tapped response refuse the same chunks that Node.js refuses, and continue: %s',
    async (_, bodyBy) => {
      const refusals: unknown[][] = [];
      const handle = (response: ServerResponse, recorder?: HoldingRecorder) => {
        const codes: unknown[] = [];
        refusals.push(codes);
        for (const chunk of [null, undefined, 7, { not: 'a chunk' }, ['nor', 'this']] as unknown as string[])
          for (const name of chunk ? (['write', 'end'] as const) : (['write'] as const)) {
            try {
              response[name](chunk);
              codes.push(`${name} took ${chunk}`);
            } catch (error) {
              codes.push([(error as { code: unknown }).code, (error as Error).name]);
            }
          }
        response.end('body');
        recorder?.letGo();
      };
      let recorder!: HoldingRecorder;
      const plain = await bodyBy((response) => handle(response));
      const tapped = await bodyBy((response) => handle(response, (recorder = recorded(response))));
      expect([plain, tapped]).toEqual(['body', 'body']);
      expect(refusals[1]).toEqual(refusals[0]);
      expect(recorder.bodies).toEqual(['body']);
    },
  );

  it('[ID-2] sends the status that a response had when it ended, even if it is set again while held', async () => {
    const sent: unknown[] = [];
    await bodyOf((response) => {
      const recorder = recorded(response);
      response.statusCode = 201;
      response.end('body');
      response.statusCode = 500;
      response.statusMessage = 'Too Late';
      recorder.letGo();
      response.on('finish', () => sent.push(response.statusCode, response.statusMessage));
    });
    expect(sent).toEqual([201, 'Created']);
  });

  it('[ID-2] is not affected by a handler that reuses the memory of a chunk', async () => {
    let recorder!: HoldingRecorder;
    const body = await bodyOf((response) => {
      recorder = recorded(response);
      const chunk = Buffer.from('one ');
      response.write(chunk);
      chunk.write('two ');
      response.end(chunk);
      chunk.fill('x');
      recorder.letGo();
    });
    expect(body).toBe('one two ');
    expect(recorder.bodies).toEqual([body]);
  });

  it('[ID-30] holds the last byte of a streamed Content-Length until the response is kept', async () => {
    let recorder!: HoldingRecorder;
    const handle = (response: ServerResponse): void => {
      recorder = recorded(response, true);
      response.writeHead(200, { 'Content-Length': 4 });
      response.write('ab');
      response.end('cd');
    };
    await withClient(handle, async ({ got }) => {
      await waitFor('all but the last byte', () => got().endsWith('\r\n\r\nabc'));
      recorder.letGo();
      await waitFor('the last byte', () => got().endsWith('abcd'));
    });
    expect(recorder.bodies).toEqual(['abcd']);
  });

  it.each([false, true])(
    '[ID-30] sends its held bytes when another component ends the response; flowing: %s',
    async (streams) => {
      let recorder!: HoldingRecorder;
      const body = await bodyOf((response) => {
        recorder = recorded(response, streams);
        response.writeHead(200, { 'Content-Length': 4 });
        response.write('abcd');
        recorder.owns = false;
        response.end();
      });
      expect(body).toBe('abcd');
      expect([recorder.losses, recorder.endings]).toEqual([['broken'], []]);
    },
  );

  it('[ID-30] hides a client’s disconnection from the application until the response is kept', async () => {
    const told: string[] = [];
    let recorder!: HoldingRecorder;
    const handle = (response: ServerResponse): void => {
      for (const event of ['finish', 'close']) response.on(event, () => told.push(event));
      recorder = recorded(response);
      response.write('part ');
    };
    await withClient(handle, async ({ response, socket }) => {
      socket.destroy();
      await waitFor('the tap to notice', () => recorder.hasGone);
      expect([told, response.destroyed]).toEqual([[], false]);
      await new Promise((resolve) => response.write('more ', resolve));
      response.end('end');
      expect([told, response.destroyed]).toEqual([[], false]);
      recorder.letGo();
      await waitFor('the close', () => told.includes('close'));
      expect([told, response.destroyed]).toEqual([['finish', 'close'], true]);
    });
    expect(recorder.bodies).toEqual(['part more end']);
  });

  it('[ID-30] lets a source continue that waits for a disconnected client', async () => {
    let hasDrained = false;
    let recorder!: HoldingRecorder;
    const handle = (response: ServerResponse): void => {
      recorder = recorded(response, true);
      response.on('drain', () => (hasDrained = true));
    };
    await withClient(handle, async ({ response, socket }) => {
      socket.pause();
      // More than the buffers between the two hold.
      expect(response.write(Buffer.alloc(50_000_000))).toBe(false);
      socket.destroy();
      await waitFor('the drain', () => hasDrained);
      await new Promise((resolve) => response.write('more', resolve));
      response.end();
      recorder.letGo();
    });
    expect(recorder.endings).toMatchObject([{ response: undefined, reason: 'too-large' }]);
  });

  it('[ID-30] lets a source continue that starts after the client disconnected', async () => {
    let recorder!: HoldingRecorder;
    const handle = (response: ServerResponse): void => void (recorder = recorded(response, true));
    await withClient(handle, async ({ response, socket }) => {
      socket.pause();
      expect(response.write(Buffer.alloc(50_000_000))).toBe(false);
      socket.destroy();
      await waitFor('the tap to notice', () => recorder.hasGone);
      const piped = pipeline(Readable.from(['more', 'and more']), response);
      await waitFor('the end of the source', () => recorder.endings.length > 0);
      recorder.letGo();
      await piped;
    });
  });

  it('[ID-30] sends the same part of a destroyed response that Node.js would have sent by then', async () => {
    const gotOf = async (handle: (response: ServerResponse) => void): Promise<string> => {
      let all = '';
      await withClient(handle, async ({ socket, got }) => {
        await waitFor('the end', () => socket.destroyed);
        all = got().replace(/Date: [^\r]*/, 'Date');
      });
      return all;
    };
    const breaking = (response: ServerResponse): void => {
      response.write('sent');
      setTimeout(() => {
        response.write('too late');
        response.destroy();
      }, 20);
    };
    const plain = await gotOf(breaking);
    expect(plain).toMatch(/sent\r\n$/);
    const tapped = await gotOf((response) => {
      recorded(response);
      breaking(response);
    });
    expect(tapped).toBe(plain);
  });

  it('[ID-30] sends nothing of a response that is destroyed in the tick in which it is written', async () => {
    await withClient(
      (response) => {
        recorded(response);
        response.write('never sent');
        response.destroy();
      },
      async ({ socket, got }) => {
        await waitFor('the end', () => socket.destroyed);
        expect(got()).toBe('');
      },
    );
  });

  it('[ID-2] leaves other responses unchanged', async () => {
    const prototypes = new Set<object | null>();
    const plain = (response: ServerResponse): void => {
      prototypes.add(Object.getPrototypeOf(response) as object);
      response.end('plain');
    };
    await bodyOf(plain);
    await bodyOf((response) => {
      const recorder = recorded(response);
      response.end('tapped');
      recorder.letGo();
    });
    expect(await bodyOf(plain)).toBe('plain');
    expect(prototypes.size).toBe(1);
  });
});
