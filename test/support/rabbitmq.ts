import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect } from 'amqplib';
import { freePort } from './free-port.js';
import { waitFor } from './wait-for.js';

/**
 * Places where packages put the program itself: the script on PATH starts the system's own server.
 */
const PROGRAMS = [
  process.env.RABBITMQ_SERVER_BINARY,
  '/usr/lib/rabbitmq/bin/rabbitmq-server',
  '/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server',
  '/usr/local/opt/rabbitmq/sbin/rabbitmq-server',
];

/** A RabbitMQ on this machine, which `npm test` installs where it can. */
export const rabbitProgram = PROGRAMS.find((program) => program && existsSync(program));

/**
 * A RabbitMQ of its own: its own ports, directories and cookie, and an epmd that no other Erlang
 * knows. Call it inside `describe`.
 */
export function useRabbit(): { readonly url: string } {
  const children: ChildProcess[] = [];
  let directory = '';
  let url = '';

  beforeAll(async () => {
    directory = mkdtempSync(path.join(tmpdir(), 'rabbitmq-'));
    const [port, distribution, epmd] = await Promise.all([freePort(), freePort(), freePort()]);
    writeFileSync(path.join(directory, 'plugins'), '[].');
    const env = {
      PATH: process.env.PATH,
      HOME: directory,
      ERL_EPMD_PORT: String(epmd),
      RABBITMQ_NODENAME: `test-${port}@localhost`,
      RABBITMQ_NODE_IP_ADDRESS: '127.0.0.1',
      RABBITMQ_NODE_PORT: String(port),
      RABBITMQ_DIST_PORT: String(distribution),
      RABBITMQ_MNESIA_BASE: directory,
      RABBITMQ_LOG_BASE: directory,
      RABBITMQ_CONF_ENV_FILE: path.join(directory, 'none'),
      RABBITMQ_ENABLED_PLUGINS_FILE: path.join(directory, 'plugins'),
    };
    const start = (program: string, args: string[]): void => {
      // Starts a process group: the program is a script, and ends with its children.
      const child = spawn(program, args, { env, cwd: directory, stdio: 'ignore', detached: true });
      child.on('error', () => undefined);
      children.push(child);
    };
    start('epmd', ['-port', String(epmd), '-address', '127.0.0.1']);
    start(rabbitProgram!, []);
    url = `amqp://guest:guest@127.0.0.1:${port}`;
    await waitFor('RabbitMQ', async () => {
      const connection = await connect(url).catch(() => undefined);
      await connection?.close();
      return connection !== undefined;
    });
  });

  afterAll(async () => {
    await Promise.all(
      children.map(async (child) => {
        if (child.pid === undefined || child.exitCode !== null) return;
        const exited = once(child, 'exit');
        process.kill(-child.pid, 'SIGKILL');
        await exited;
      }),
    );
    rmSync(directory, { recursive: true, force: true });
  });

  return {
    get url() {
      return url;
    },
  };
}
