import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { findServerBinary, freePort, LOOPBACK, ServerProcess } from './redis-server-process.js';
import { RedisServerStartError } from './redis-server.errors.js';

/** Options of `startRedisServer`. @inline */
export interface RedisServerOptions {
  /**
   * Name on PATH, or path, of the server itself, not of a script that runs one.
   * @default the environment's REDIS_SERVER_BINARY, else `redis-server`, else `valkey-server`
   */
  binary?: string;
  /**
   * Server options, such as `['--maxmemory', '64mb']`, optionally after the path of a configuration
   * file. They win over the defaults (`--save ''`, `--appendonly no`). The port and the directory
   * have options of their own.
   */
  args?: readonly string[];
  /** @default a free one */
  port?: number;
  /** Time that the server may take until it answers PING, in milliseconds. @default 10_000 */
  startTimeoutMs?: number;
  /** Existing working directory; it is kept. @default a temporary one, removed by `stop()` */
  directory?: string;
}

/**
 * A running server. It does not keep this process alive, and goes when this process goes, even by
 * SIGKILL; the terminal's Ctrl-C does not reach it.
 */
export interface RedisServer {
  readonly host: string;
  readonly port: number;
  /** `redis://127.0.0.1:<port>` */
  readonly url: string;
  /** The server's own pid; changes with `restart()`. */
  readonly pid: number;
  readonly running: boolean;
  readonly directory: string;
  /** Ends the server and removes its temporary directory. Repeating it does nothing. */
  stop(): Promise<void>;
  /**
   * Ends the server as a crash does and waits for it; the directory stays for `restart()`.
   * @default 'SIGKILL'
   */
  kill(signal?: 'SIGKILL' | 'SIGTERM' | 'SIGINT'): Promise<void>;
  /** SIGSTOP: connections stay open and nothing is answered. */
  pause(): void;
  /** SIGCONT */
  resume(): void;
  /**
   * Starts again on the same port. Data survives only with `--appendonly yes` or `--save` among the
   * args.
   */
  restart(): Promise<void>;
}

const PORT_ATTEMPTS = 5;
const OWN_OPTIONS: Record<string, string> = {
  '--port': 'port',
  '--dir': 'directory',
  '--bind': 'nothing: it is always 127.0.0.1',
  '--daemonize': 'nothing: the server belongs to this process',
  '--logfile': 'nothing: server.log in the directory',
};

/**
 * Starts a real server on 127.0.0.1, in memory, for tests and development. POSIX only.
 *
 * @throws {RedisServerNotFoundError} no binary
 * @throws {RedisServerStartError} it exited at once or was not ready in time; holds its last output
 * @example
 * const server = await startRedisServer();
 * const redis = new Redis(server.url);
 */
export async function startRedisServer(options: RedisServerOptions = {}): Promise<RedisServer> {
  const { startTimeoutMs = 10_000 } = options;
  const userArgs = checkArgs(options.args ?? []);
  const binary = findServerBinary(options.binary);
  const temporary = options.directory === undefined;
  const directory = resolve(options.directory ?? (await mkdtemp(join(tmpdir(), 'redis-server-'))));

  const launch = async (port: number): Promise<ServerProcess> => {
    const child = new ServerProcess({ binary, args: serverArgs(userArgs, port), port, directory, temporary });
    await child.ready(startTimeoutMs);
    return child;
  };
  const removeDirectory = async () => {
    if (temporary) await rm(directory, { recursive: true, force: true });
  };

  let port = 0;
  let child: ServerProcess | undefined;
  for (let attempt = 1; child === undefined; attempt++) {
    port = options.port ?? (await freePort());
    try {
      child = await launch(port);
    } catch (error) {
      // The port was free a moment ago; only one that was asked for by number cannot be exchanged.
      const another = error instanceof RedisServerStartError && error.portTaken && options.port === undefined;
      if (another && attempt < PORT_ATTEMPTS) continue;
      await removeDirectory();
      throw error;
    }
  }
  let current = child;
  let stopped = false;

  return {
    host: LOOPBACK,
    port,
    url: `redis://${LOOPBACK}:${port}`,
    directory,
    get pid() {
      return current.pid;
    },
    get running() {
      return current.running;
    },
    async stop() {
      stopped = true;
      // A temporary server need not save its data, and a polite shutdown waits for slow replicas.
      await current.end(temporary ? 'SIGKILL' : 'SIGTERM');
      await removeDirectory();
    },
    async kill(signal = 'SIGKILL') {
      await current.end(signal);
    },
    pause() {
      current.signal('SIGSTOP');
    },
    resume() {
      current.signal('SIGCONT');
    },
    async restart() {
      if (stopped) throw new Error('restart() after stop(): start a new server');
      await current.end('SIGTERM');
      current = await launch(port);
    },
  };
}

function checkArgs(args: readonly string[]): readonly string[] {
  for (const arg of args) {
    const instead = OWN_OPTIONS[arg.toLowerCase()];
    if (instead !== undefined)
      throw new TypeError(`args: ${arg} is not accepted; the option for it is ${instead}`);
  }
  return args;
}

function serverArgs(userArgs: readonly string[], port: number): string[] {
  const configFile =
    userArgs[0]?.startsWith('--') === false ? userArgs.slice(0, 1).map((path) => resolve(path)) : [];
  const rest = userArgs.slice(configFile.length);
  const given = new Set(rest.map((arg) => arg.toLowerCase()));
  const own = ['--port', String(port), '--bind', LOOPBACK];
  const defaults = [
    ['--save', ''],
    ['--appendonly', 'no'],
  ];
  return [...configFile, ...own, ...defaults.filter(([name]) => !given.has(name ?? '')).flat(), ...rest];
}
