import { createHash } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { ConflictException, HttpException, StreamableFile } from '@nestjs/common';
import {
  CounterLimitError,
  NotReplicatedError,
  OutcomeUnknownError,
  RedisUnavailableError,
  TransactionConflictError,
  IllegalTransactionStateError,
} from 'nestjs-atomic-redis';
import { EMPTY, from, of, throwError } from 'rxjs';
import type { Attempt, Ending, ErrorKind, Source, ValueKind } from './cases.js';
import type { Script } from './script.js';

/** An error of an application that knows nothing of HTTP; a filter may map it. */
export class DomainError extends Error {}

/** The reply of Express, or of Fastify, which has the raw one beside it. */
export interface AnyReply {
  readonly raw?: ServerResponse;
  status(code: number): AnyReply;
  send(body?: unknown): unknown;
  json(body: unknown): unknown;
  redirect(first: unknown, second: unknown): unknown;
  sendFile(path: string): unknown;
  header(name: string, value: string): unknown;
}

/** Hexadecimal digits without order: compression leaves half of them. */
const DIGITS = Array.from({ length: 1_024 }, (_, index) =>
  createHash('sha256').update(String(index)).digest('hex'),
).join('');

export const textOf = (size: number): string => DIGITS.slice(0, size);

/** Folder of the files that `sendFile` sends: `SIZE.txt`. */
export const FILES = mkdtempSync(join(tmpdir(), 'http-property-'));
for (const size of [0, 1, 700, 16_384]) writeFileSync(join(FILES, `${size}.txt`), textOf(size));

/** The decorated method, and the same without the decorator. */
export async function performed(script: Script, reply: AnyReply | undefined): Promise<unknown> {
  return script.handle(async (attempt) => {
    for (let turns = attempt.turns; turns > 0; turns--) await turn();
    if (script.phase === 'first' && script.plan.around.before === 'ends-soon') await script.untilEnded(100);
    if (attempt.reachesPoint && attempt.ending.do !== 'respond-partly') await script.point();
    return ending(script, attempt, reply);
  });
}

async function ending(script: Script, attempt: Attempt, reply: AnyReply | undefined): Promise<unknown> {
  const how = attempt.ending;
  switch (how.do) {
    case 'return':
      if (attempt.status !== undefined) setStatus(reply!, attempt.status);
      return VALUES[how.value](textOf(how.size));
    case 'throw':
      throw planned(script, how.error);
    case 'stream': {
      if (attempt.status !== undefined) setStatus(reply!, attempt.status);
      const length = how.hasLength ? how.size : undefined;
      return new StreamableFile(sourceOf(how.source, how.size), { type: 'text/plain', length });
    }
    case 'respond':
      if (how.late) {
        script.later(() => respond(how, reply!));
        return undefined;
      }
      await respond(how, reply!);
      if (how.thenThrows === undefined) return undefined;
      // Long: a response that a busy machine has not ended yet is another case, of a handler that
      // failed half-way.
      await script.untilEnded(2_000);
      throw planned(script, how.thenThrows);
    case 'respond-partly': {
      const raw = reply!.raw ?? (reply as unknown as ServerResponse);
      raw.setHeader('content-type', 'text/plain');
      if (how.sends === 'head') raw.flushHeaders();
      else raw.write('a part');
      await sleep(5);
      if (attempt.reachesPoint) await script.point();
      if (how.next === 'throw') throw planned(script, { kind: 'plain' });
      if (how.next === 'destroy') raw.destroy();
      if (how.next === 'end-late') script.later(async () => raw.end(' and the rest'));
      return undefined;
    }
    case 'answer-nothing':
      return undefined;
    case 'hang':
      break;
  }
  await script.hang();
  throw planned(script, { kind: 'plain' });
}

function planned(script: Script, kind: ErrorKind): unknown {
  const error = errorOf(kind);
  script.planned.add(error);
  return error;
}

/** With headers of which some are replayed and some must not be. */
function setStatus(reply: AnyReply, status: number): void {
  reply.status(status);
  reply.header('content-language', 'en');
  reply.header('x-request-id', 'first');
  reply.header('set-cookie', 'session=first');
}

async function respond(
  { style, status, size, source }: Extract<Ending, { do: 'respond' }>,
  reply: AnyReply,
): Promise<void> {
  const raw = reply.raw ?? (reply as unknown as ServerResponse);
  const isFastify = reply.raw !== undefined;
  const body = textOf(size);
  switch (style) {
    case 'send':
      return void reply.status(status).send(body);
    case 'json':
      reply.status(status);
      reply.header('set-cookie', 'session=first');
      return void (isFastify ? reply.send({ body }) : reply.json({ body }));
    case 'status-send':
      return void reply.status(status).send(Buffer.from(body));
    case 'writes':
      raw.statusCode = status;
      raw.setHeader('content-type', 'text/plain');
      raw.write('first ');
      await turn();
      raw.write(body);
      return void raw.end(' last');
    case 'flush':
      raw.statusCode = status;
      raw.setHeader('content-type', 'text/plain');
      raw.flushHeaders();
      await turn();
      return void raw.end(body);
    case 'writeHead':
      raw.writeHead(status, { 'content-type': 'text/plain', 'x-request-id': 'first' });
      return void raw.end(body);
    case 'writeHead-length':
      raw.writeHead(status, { 'content-type': 'text/plain', 'content-length': size });
      raw.write(body.slice(0, size / 2));
      return void raw.end(body.slice(size / 2));
    case 'end':
      raw.statusCode = status;
      return void raw.end();
    case 'sendFile':
      return void reply.sendFile(isFastify ? `${size}.txt` : join(FILES, `${size}.txt`));
    case 'redirect':
      return void (isFastify ? reply.redirect('/elsewhere', 302) : reply.redirect(302, '/elsewhere'));
    case 'pipe': {
      raw.statusCode = status;
      const readable = sourceOf(source, size);
      readable.on('error', () => raw.destroy());
      readable.pipe(raw);
      return;
    }
    case 'pipeline':
      raw.statusCode = status;
      await pipeline(sourceOf(source, size), raw);
  }
}

/** A stream of four chunks, of which a failing one gives two. */
function sourceOf(source: Source, size: number): Readable {
  return Readable.from(
    (async function* () {
      await turn();
      if (source === 'fails-first') throw new Error('the source failed at once');
      const text = textOf(size);
      for (let index = 0; index < 4; index++) {
        if (index === 2 && source === 'fails-midway') {
          await sleep(5);
          throw new Error('the source failed half-way');
        }
        yield Buffer.from(text.slice((index * size) / 4, ((index + 1) * size) / 4));
        await turn();
      }
    })(),
  );
}

const VALUES: Readonly<Record<ValueKind, (text: string) => unknown>> = {
  nothing: () => undefined,
  null: () => null,
  text: (text) => text,
  number: () => 42,
  false: () => false,
  object: (text) => ({ text, nested: { list: [1, null, 'two'] } }),
  array: (text) => [text, 1, null],
  error: () => new Error('returned'),
  circular: () => {
    const circular: Record<string, unknown> = {};
    return Object.assign(circular, { circular });
  },
  bigint: () => ({ big: 1n }),
  buffer: (text) => Buffer.from(text),
  observable: (text) => of({ text }),
  'observable-many': (text) => from([{ text: 'first' }, { text }]),
  'observable-empty': () => EMPTY,
  'observable-fails': () => throwError(() => new ConflictException('from an Observable')),
  'web-response': (text) => new Response(text, { status: 202, headers: { 'content-type': 'text/plain' } }),
  generator: async function* (text) {
    yield text.slice(0, text.length / 2);
    await turn();
    yield text.slice(text.length / 2);
  },
  'streamable-bytes': (text) => new StreamableFile(Buffer.from(text)),
};

const ERRORS: Readonly<Record<Exclude<ErrorKind['kind'], 'http'>, () => unknown>> = {
  plain: () => new Error('plain'),
  domain: () => new DomainError('no such order'),
  conflict: () => new TransactionConflictError(['key'], 3, 10),
  limit: () => new CounterLimitError('stock', 0, -1, 0),
  unavailable: () => new RedisUnavailableError('Redis cannot be reached'),
  unknown: () => new OutcomeUnknownError('no answer'),
  applied: () => new NotReplicatedError('a call', 1, 0, 'OK'),
  misuse: () => new IllegalTransactionStateError('misused'),
  text: () => 'text',
  undefined: () => undefined,
  null: () => null,
  object: () => ({ message: 'an object' }),
  'status-object': () => ({ statusCode: 418, message: 'a teapot' }),
};

const errorOf = (error: ErrorKind): unknown =>
  error.kind === 'http'
    ? new HttpException({ message: 'refused', status: error.status }, error.status)
    : ERRORS[error.kind]();
