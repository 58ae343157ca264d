import { spawn, type ChildProcess } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readFileSync } from 'node:fs';
import { createServer, connect, type Socket } from 'node:net';
import { delimiter, join, resolve, sep } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { RedisServerNotFoundError, RedisServerStartError } from './redis-server.errors.js';

export const LOOPBACK = '127.0.0.1';
const LOG_FILE = 'server.log';
const LOG_TAIL_CHARS = 4_000;
const PROBE_INTERVAL_MS = 10;
const PROBE_TIMEOUT_MS = 500;

/**
 * The shell replaces itself by the server, so the child's pid is the server's. What stays behind is
 * one reader of the pipe: end of file without the word `exited` means that the parent died, however
 * it died, and takes the server and its temporary directory ($1, or empty) with it. The word keeps
 * the reader from killing a pid that was given away.
 */
const SUPERVISOR = `
directory=$1; shift
( read -r word <&3; [ "$word" = exited ] && exit 0
  kill -KILL $$; [ -z "$directory" ] || rm -rf -- "$directory" ) >/dev/null 2>&1 &
exec "$@" 3<&-`;

export interface ServerCommand {
  readonly binary: string;
  readonly args: readonly string[];
  readonly port: number;
  readonly directory: string;
  /** The directory goes when the parent process does. */
  readonly temporary: boolean;
}

/** One run of a server, from spawn to exit. */
export class ServerProcess {
  readonly #child: ChildProcess;
  readonly exited: Promise<string>;
  #exitReason: string | undefined;

  constructor(private readonly command: ServerCommand) {
    const { binary, args, directory, temporary } = command;
    // A file, not a pipe: nothing to drain, so a busy parent never blocks the server's logging.
    const log = openSync(join(directory, LOG_FILE), 'w');
    // Detached: a Ctrl-C in the terminal reaches the application, which may still need the server
    // to shut down.
    this.#child = spawn('/bin/sh', ['-c', SUPERVISOR, 'sh', temporary ? directory : '', binary, ...args], {
      cwd: directory,
      // A test runner may give each test file a copy: the server gets what the test has set there.
      env: process.env,
      detached: true,
      // The supervisor's pipe is not stdin: Node destroys that one at the child's exit, before a
      // word can be written.
      stdio: ['ignore', log, log, 'pipe'],
    });
    closeSync(log);
    const lifeline = this.#child.stdio[3] as Socket;
    lifeline.on('error', () => {});
    lifeline.unref();
    this.#child.unref();
    this.exited = new Promise((resolve) => {
      const settle = (reason: string) => {
        this.#exitReason ??= reason;
        lifeline.end('exited\n');
        resolve(this.#exitReason);
      };
      this.#child.once('error', (error) => settle(error.message));
      this.#child.once('exit', (code, signal) =>
        settle(signal === null ? `it exited with status ${code}` : `it was ended by ${signal}`),
      );
    });
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  get running(): boolean {
    return this.#exitReason === undefined;
  }

  /** False when the server is gone already; never reaches another process. */
  signal(signal: NodeJS.Signals): boolean {
    return this.running && this.#child.kill(signal);
  }

  /** Sends a signal that ends the server and waits for its end; after `graceMs`, SIGKILL. */
  async end(signal: NodeJS.Signals, graceMs = 5_000): Promise<void> {
    if (!this.running) return;
    this.#child.ref();
    this.signal(signal);
    // A stopped process acts on no signal but SIGKILL.
    this.signal('SIGCONT');
    const force = setTimeout(() => this.signal('SIGKILL'), graceMs);
    await this.exited;
    clearTimeout(force);
  }

  /** @throws {RedisServerStartError} after which the process is gone */
  async ready(timeoutMs: number): Promise<void> {
    const { port } = this.command;
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const answer = await probe(port);
      if (!this.running) throw this.#failure(await this.exited);
      const owner = /process_id:(\d+)/.exec(answer)?.[1];
      if (owner !== undefined && Number(owner) !== this.pid) {
        await this.end('SIGKILL');
        throw this.#failure(`port ${port} is answered by another server, process ${owner}`, true);
      }
      // A server that wants a password first is up; one that is loading its data is not.
      if (owner !== undefined || answer.includes('-NOAUTH')) return;
      if (performance.now() > deadline) {
        await this.end('SIGKILL');
        throw this.#failure(`no answer to PING on port ${port} within ${timeoutMs} ms`);
      }
      await Promise.race([sleep(PROBE_INTERVAL_MS), this.exited]);
    }
  }

  #failure(reason: string, portTaken?: boolean): RedisServerStartError {
    const { binary, directory } = this.command;
    let output = '';
    try {
      output = readFileSync(join(directory, LOG_FILE), 'utf8').slice(-LOG_TAIL_CHARS).trim();
    } catch {
      // The directory went with the parent's supervisor, or was removed by the caller.
    }
    return new RedisServerStartError(reason, binary, output, portTaken ?? /already in use/i.test(output));
  }
}

/** Returns the port's replies to PING and INFO, or an empty text if no reply comes in time. */
async function probe(port: number): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect({ host: LOOPBACK, port });
    const done = () => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, done);
    socket.once('connect', () => socket.write('PING\r\nINFO server\r\n'));
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString('latin1');
      const [ping, ...rest] = answer.split('\r\n');
      const refused = ping !== '' && ping !== '+PONG' && rest.length > 0;
      if (refused || /process_id:\d+\r\n/.test(answer)) done();
    });
    socket.once('error', done);
    socket.once('close', done);
  });
}

/** Returns a free port. Only a bind keeps it free, so the caller must be ready to find it taken. */
export async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, LOOPBACK, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/** @throws {RedisServerNotFoundError} */
export function findServerBinary(binary = process.env['REDIS_SERVER_BINARY'] || undefined): string {
  const names = binary === undefined ? ['redis-server', 'valkey-server'] : [binary];
  for (const name of names) {
    const folders = name.includes(sep) ? [''] : (process.env['PATH'] ?? '').split(delimiter).filter(Boolean);
    for (const folder of folders) {
      const path = folder === '' ? name : join(folder, name);
      try {
        accessSync(path, constants.X_OK);
        // Absolute, for the server runs in a directory of its own.
        return resolve(path);
      } catch {
        // Not here: look on.
      }
    }
  }
  throw new RedisServerNotFoundError(names);
}
