import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import {
  RedisServerNotFoundError,
  RedisServerStartError,
  startRedisServer,
  type RedisServer,
} from '../../lib/testing/index.js';
import type { OwnedServer, SupportJob } from './support.worker.js';
import { waitFor } from './wait-for.js';
import { startWorker, type WorkerProcess } from './workers.js';

const binary = process.env['TEST_REDIS_BINARY'];

/**
 * Nobody listens any more and the directory is gone. A pid says less: an orphan may stay a zombie
 * for a while.
 */
const isGone = async ({ port, directory }: { port: number; directory: string }): Promise<boolean> => {
  const open = await new Promise<boolean>((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true)).once('error', () => resolve(false));
    socket.once('close', () => socket.destroy()).end();
  });
  return !open && !existsSync(directory);
};

describe('redis server', () => {
  const servers: RedisServer[] = [];
  const clients: Redis[] = [];

  const start = async (...[options]: Parameters<typeof startRedisServer>) => {
    const server = await startRedisServer({ binary, ...options });
    servers.push(server);
    return server;
  };
  const client = (server: RedisServer) => {
    const made = new Redis(server.url, { retryStrategy: () => 20 });
    made.on('error', () => {});
    clients.push(made);
    return made;
  };

  afterEach(async () => {
    for (const each of clients.splice(0)) each.disconnect();
    await Promise.all(servers.splice(0).map((server) => server.stop()));
  });

  it('runs on loopback under its own pid, several at once, and is gone after stop()', async () => {
    const several = [await start(), ...(await Promise.all([start(), start()]))] as const;
    expect(new Set(several.map(({ port }) => port)).size).toBe(3);
    for (const server of several) {
      const info = await client(server).info('server');
      expect(info).toContain(`process_id:${server.pid}\r\n`);
      expect(server.url).toBe(`redis://127.0.0.1:${server.port}`);
    }
    const [server] = several;
    await server.stop();
    expect(await isGone(server)).toBe(true);
    expect(server.running).toBe(false);
    await server.stop();
    await expect(server.restart()).rejects.toThrow('after stop()');
  });

  it('restarts on the same port: empty by default, with its data when it is persistent', async () => {
    const forgetful = await start();
    const keeping = await start({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] });
    for (const [server, value] of [
      [forgetful, null],
      [keeping, 'kept'],
    ] as const) {
      const { pid } = server;
      await client(server).set('key', 'kept');
      await server.kill();
      expect(server.running).toBe(false);
      await server.restart();
      expect(server.pid).not.toBe(pid);
      expect(await client(server).get('key')).toBe(value);
    }
  });

  it('keeps its connections and answers nothing while paused, and answers after resume', async () => {
    const server = await start();
    const redis = client(server);
    await redis.ping();
    server.pause();
    await waitFor('stopped', () => processField(server.pid, 'stat').startsWith('T'));
    let answered = false;
    const ping = redis.ping().finally(() => (answered = true));
    // A whole round trip through another server: time enough for an answer.
    await client(await start()).ping();
    expect(answered).toBe(false);
    expect(redis.status).toBe('ready');
    server.resume();
    expect(await ping).toBe('PONG');
    server.pause();
    const started = performance.now();
    await server.restart();
    // Less than the grace after which SIGKILL ends what did not react to SIGTERM.
    expect(performance.now() - started).toBeLessThan(4_000);
    server.pause();
    await server.stop();
    expect(await isGone(server)).toBe(true);
  });

  it('passes options on, and waits for a server that requires a password', async () => {
    const server = await start({ args: ['--requirepass', 'secret', '--maxmemory', '64mb'] });
    const redis = new Redis(server.port, { password: 'secret' });
    clients.push(redis);
    expect(await redis.config('GET', 'maxmemory')).toEqual(['maxmemory', String(64 * 1024 * 1024)]);
    await expect(start({ args: ['--port', '1'] })).rejects.toThrow('the option for it is port');
  });

  it('keeps a directory that it did not create', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'kept-'));
    await (await start({ directory })).stop();
    expect(existsSync(directory)).toBe(true);
    await rm(directory, { recursive: true });
  });

  describe('a failed start', () => {
    const failure = async (...[options]: Parameters<typeof startRedisServer>) =>
      start(options).then(
        () => undefined,
        (error: unknown) => error,
      );

    it('names the missing binary', async () => {
      const error = await failure({ binary: 'no-such-server' });
      expect(error).toBeInstanceOf(RedisServerNotFoundError);
      expect(error).toMatchObject({ tried: ['no-such-server'] });
      expect(String(error)).toMatch(/apt-get install redis-server.*REDIS_URL/);
    });

    it("holds the server's last output when it exits at once", async () => {
      const error = await failure({ args: ['--no-such-option', '1'] });
      expect(error).toBeInstanceOf(RedisServerStartError);
      expect(error).toMatchObject({ reason: 'it exited with status 1', portTaken: false });
      expect(String(error)).toContain('no-such-option');
    });

    it('reports a port that is in use', async () => {
      const { port } = await start();
      expect(await failure({ port })).toMatchObject({ name: 'RedisServerStartError', portTaken: true });
    });

    it('gives up on a server that never answers, and ends it', async () => {
      const directory = await mkdtemp(join(tmpdir(), 'silent-'));
      const silent = join(directory, 'silent-server');
      await writeFile(silent, '#!/bin/sh\necho "pid $$"; exec sleep 60\n');
      await chmod(silent, 0o755);
      const error = await failure({ binary: silent, startTimeoutMs: 200 });
      expect(String(error)).toContain('no answer to PING');
      const pid = /pid (\d+)/.exec(String(error))?.[1];
      expect(processField(Number(pid), 'stat')).toBe('');
      await rm(directory, { recursive: true });
    });
  });

  describe('and the process that started it', () => {
    let parent: WorkerProcess<OwnedServer>;
    const startParent = (task: SupportJob['task']) => {
      parent = startWorker<OwnedServer>({ script: join(__dirname, 'support.worker.ts'), data: { task } });
    };

    afterEach(() => parent.kill());

    it.each(['running', 'paused'])('leaves no server behind after kill -9, %s', async (state) => {
      startParent('ownServer');
      const owned = await parent.next<OwnedServer>();
      expect(await isGone(owned)).toBe(false);
      // A terminal's Ctrl-C goes to a process group: the server is not in its parent's.
      expect(processField(owned.pid, 'pgid')).not.toBe(processField(parent.pid, 'pgid'));
      if (state === 'paused') process.kill(owned.pid, 'SIGSTOP');
      await parent.kill();
      await waitFor('the server is gone', () => isGone(owned));
    });

    it('is not kept alive by a server that runs on', async () => {
      startParent('leaveServer');
      const owned = await parent.result;
      expect(await parent.exited).toEqual({ code: 0, signal: null });
      await waitFor('the server is gone', () => isGone(owned));
    });
  });
});

/** Empty when there is no such process. */
function processField(pid: number, field: 'stat' | 'pgid'): string {
  try {
    return execFileSync('ps', ['-o', `${field}=`, '-p', String(pid)], { encoding: 'utf8' }).trim();
  } catch {
    return '';
  }
}
