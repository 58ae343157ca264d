import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { Redis } from 'ioredis';
import {
  FrameReader,
  readReply,
  readRequest,
  type RedisCommand,
  type ReplyKind,
} from '../../lib/testing/resp-frames.js';
import { withDragonflyErrors } from './dragonfly-lua.js';

/**
 * The most arguments that Dragonfly reads of one command, its name included: its flag
 * `--max_multi_bulk_len`.
 */
export const MAX_PARTS = 65_536;

const VERSION = 'df-v1.40.1';

/** Commands of Redis that Dragonfly does not have. */
const ABSENT = ['ASKING', 'WAITAOF', 'FUNCTION', 'FCALL', 'FCALL_RO'];

/**
 * A stand-in for Dragonfly, made of a real Redis and a proxy in front of it. docs/servers.md tells
 * what it imitates.
 */
export interface DragonflyDouble {
  readonly host: string;
  readonly port: number;
  /** `redis://127.0.0.1:<port>` */
  readonly url: string;
  /**
   * From now on keys that do not exist yet, and have this in their names, are refused, in scripts
   * and outside, and others are written; or no more.
   */
  setMemoryFull(isFull: boolean, inName?: string): Promise<void>;
  stop(): Promise<void>;
}

/** Starts it in front of a server, on a free port of 127.0.0.1. */
export async function startDragonflyDouble(target: { host: string; port: number }): Promise<DragonflyDouble> {
  const admin = new Redis({ host: target.host, port: target.port });
  const names = (await admin.call('COMMAND', 'LIST')) as string[];
  const server = new Server(target, admin, new Set(names.map((name) => name.toUpperCase())));
  const sockets = new Set<Socket>();
  const listener = createServer((client) => {
    const backend = connect(target.port, target.host);
    for (const [socket, other] of [
      [client, backend],
      [backend, client],
    ] as const) {
      sockets.add(socket.setNoDelay(true));
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    new Connection(client, backend, server).start();
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  return {
    host: '127.0.0.1',
    port,
    url: `redis://127.0.0.1:${port}`,
    setMemoryFull: (isFull, inName = '') => server.setMemoryFull(isFull ? inName : undefined),
    async stop() {
      for (const socket of sockets) socket.destroy();
      listener.close();
      await once(listener, 'close');
      admin.disconnect();
    },
  };
}

/** State that all connections share: the known commands, and the texts of scripts. */
class Server {
  private readonly texts = new Map<string, string>();
  /** Part of the names of refused keys; undefined while there is memory. */
  private refused: string | undefined;

  constructor(
    readonly target: { host: string; port: number },
    private readonly admin: Redis,
    private readonly commands: ReadonlySet<string>,
  ) {}

  isKnown(name: string): boolean {
    return this.commands.has(name) && !ABSENT.includes(name);
  }

  async setMemoryFull(refused: string | undefined): Promise<void> {
    for (const text of this.texts.values())
      await this.admin.script('LOAD', withDragonflyErrors(text, refused));
    this.refused = refused;
  }

  /** The text that the server behind gets. */
  textOf(text: string): string {
    this.texts.set(sha1(text), text);
    return withDragonflyErrors(text, this.refused);
  }

  /** The name under which the server behind has the script. */
  shaOf(sha: string): string {
    const text = this.texts.get(sha.toLowerCase());
    return text === undefined ? sha : sha1(withDragonflyErrors(text, this.refused));
  }

  async refusesForMemory(name: string, key: Buffer | undefined): Promise<boolean> {
    const isChecked = ['SET', 'HSET', 'LPUSH', 'RPUSH', 'ZADD', 'XADD'].includes(name);
    if (!isChecked || key === undefined || this.refused === undefined) return false;
    return key.includes(this.refused) && (await this.admin.exists(key)) === 0;
  }
}

interface Request extends RedisCommand {
  /** The original bytes, if they are passed on unchanged. */
  readonly bytes: Buffer | undefined;
}

type Waiting = (reply: Buffer) => void;

/** Handles the requests of one connection one after the other. */
class Connection {
  private readonly requests = new FrameReader<RedisCommand>(readRequest);
  private readonly replies = new FrameReader<ReplyKind>(readReply);
  private readonly waiting: Waiting[] = [];
  private queue: Promise<void> = Promise.resolve();
  private state: 'outside' | 'queueing' | 'refused' = 'outside';

  constructor(
    private readonly client: Socket,
    private readonly backend: Socket,
    private readonly server: Server,
  ) {}

  start(): void {
    this.client.on('data', (chunk) => {
      for (const { value, bytes } of this.requests.push(chunk)) {
        const request = { ...value, bytes: Buffer.from(bytes) };
        this.queue = this.queue.then(() => this.handle(request));
      }
    });
    this.backend.on('data', (chunk) => {
      for (const { value, bytes } of this.replies.push(chunk)) {
        const next = value === 'push' ? undefined : this.waiting.shift();
        // A message that answers no request, such as one of a subscription, passes unchanged.
        if (next) next(Buffer.from(bytes));
        else this.client.write(bytes);
      }
    });
  }

  private async handle(command: Request): Promise<void> {
    if (this.client.destroyed) return;
    if (command.args.length + 1 > MAX_PARTS) {
      this.client.end('-ERR Protocol error: invalid multibulk length\r\n');
      return;
    }
    this.client.write(await this.answer(command));
  }

  private async answer(command: Request): Promise<Buffer | string> {
    const { name, args } = command;
    const { server } = this;
    // It does not count as refused: EXEC does the rest.
    if (!server.isKnown(name)) return `-ERR unknown command \`${name}\`\r\n`;
    if (name === 'MULTI' && this.state === 'queueing') return '-ERR MULTI calls can not be nested\r\n';
    if (name === 'MULTI') return await this.begin(command);
    if (name === 'EXEC' || name === 'DISCARD') {
      const wasRefused = this.state === 'refused';
      this.state = 'outside';
      if (wasRefused && name === 'EXEC')
        return '-EXECABORT Transaction discarded because of previous errors\r\n';
      if (wasRefused) return '-ERR DISCARD without MULTI\r\n';
      return await this.exchange(command);
    }
    if (name === 'ACL' && args[0]?.toString().toUpperCase() === 'SETUSER')
      for (const rule of args.slice(2))
        if (/[|]|asking/.test(rule.toString())) return `-ERR Unrecognized parameter ${rule.toString()}\r\n`;
    if (this.state === 'queueing') return await this.enqueue(command);
    if (await server.refusesForMemory(name, args[0])) return '-ERR Out of memory\r\n';
    const reply = await this.exchange(this.translated(command));
    if (name === 'INFO') return withVersion(reply);
    if (name.startsWith('EVAL')) return withWrappedError(reply, name, args[0]!.toString());
    if (name === 'SCRIPT' && args[0]?.toString().toUpperCase() === 'LOAD' && reply[0] !== 0x2d)
      return bulk(sha1(args[1]!.toString()));
    return reply;
  }

  private async begin(command: Request): Promise<Buffer> {
    const reply = await this.exchange(command);
    // Refused, it changes nothing.
    if (reply[0] !== 0x2d) this.state = 'queueing';
    return reply;
  }

  private async enqueue(command: Request): Promise<Buffer> {
    const reply = await this.exchange(this.translated(command));
    if (reply[0] !== 0x2d) return reply;
    // Drops queued and watched commands; the next commands run at once.
    this.state = 'refused';
    await this.exchange({ name: 'DISCARD', args: [], bytes: undefined });
    return reply;
  }

  /** The command as the server behind understands it. */
  private translated(command: Request): Request {
    const { name, args } = command;
    const { server } = this;
    const replaceFirst = (first: string): Request => ({
      name,
      args: [Buffer.from(first), ...args.slice(1)],
      bytes: undefined,
    });
    if (name.startsWith('EVALSHA') && args[0]) return replaceFirst(server.shaOf(args[0].toString()));
    if (name.startsWith('EVAL') && args[0]) return replaceFirst(server.textOf(args[0].toString()));
    if (name !== 'SCRIPT') return command;
    const [subcommand, ...rest] = args.map(String);
    const translate =
      subcommand?.toUpperCase() === 'LOAD'
        ? (text: string) => server.textOf(text)
        : (sha: string) => server.shaOf(sha);
    const translated = [subcommand ?? '', ...rest.map(translate)].map((text) => Buffer.from(text));
    return { name, args: translated, bytes: undefined };
  }

  private exchange({ name, args, bytes }: Request): Promise<Buffer> {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.backend.write(bytes ?? encoded([Buffer.from(name), ...args]));
    });
  }
}

const encoded = (parts: readonly Buffer[]): Buffer =>
  Buffer.concat([
    Buffer.from(`*${parts.length}\r\n`),
    ...parts.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, Buffer.from('\r\n')]),
  ]);

const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex');

const bulk = (text: string): string => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;

/** INFO as Dragonfly has it, as far as the library reads it. */
function withVersion(reply: Buffer): Buffer | string {
  const text = reply.toString();
  const end = text.indexOf('\r\n');
  if (!'$='.includes(text[0]!) || !text.includes('redis_version')) return reply;
  const body = text
    .slice(end + 2, -2)
    .replace(/^txt:/, '')
    .replace(/^redis_version:.*$/m, `redis_version:7.4.0\r\ndragonfly_version:${VERSION}\r`);
  return bulk(body);
}

/** An error of a script, in Dragonfly's words. */
function withWrappedError(reply: Buffer, name: string, script: string): Buffer | string {
  if (reply[0] !== 0x2d) return reply;
  const found = /^-(?:ERR )?(.*) script: [0-9a-f]{40}, on @user_script:(\d+)\.\r\n$/s.exec(reply.toString());
  if (!found) return reply;
  const sha = name.startsWith('EVALSHA') ? script : sha1(script);
  return `-ERR Error running script (call to ${sha}): @user_script:${Number(found[2]) + 1}: ${found[1]}\r\n`;
}
