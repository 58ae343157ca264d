import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { ScriptError } from '../setup/process.mjs';

/**
 * Runs `work` with the URL of a server of its own: plain, since the package under test is not to
 * test itself.
 */
export async function withRedis(binary, directory, work) {
  const port = await freePort();
  const args = [
    '--port',
    port,
    '--bind',
    '127.0.0.1',
    '--dir',
    directory,
    '--save',
    '',
    '--appendonly',
    'no',
  ];
  const server = spawn(binary, args.map(String), { stdio: 'ignore' });
  const gone = once(server, 'exit');
  try {
    for (const deadline = Date.now() + 10_000; !(await answers(port)); await sleep(50)) {
      if (server.exitCode !== null || Date.now() > deadline)
        throw new ScriptError(`${binary} did not start.`);
    }
    return await work(`redis://127.0.0.1:${port}`);
  } finally {
    server.kill('SIGKILL');
    await gone;
  }
}

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const settle = (answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.on('connect', () => socket.write('PING\r\n'));
    socket.on('data', (data) => settle(data.toString().startsWith('+PONG')));
    socket.on('error', () => settle(false));
    socket.on('close', () => settle(false));
  });
}
