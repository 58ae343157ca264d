import { connect } from 'node:net';
import type { Redis } from 'ioredis';

const LISTEN_MS = 300;

/** Returns true if a connection ended like one that the server closed before it read anything. */
export const isCutOff = (error: Error): boolean =>
  ['ECONNRESET', 'EPIPE'].includes((error as NodeJS.ErrnoException).code ?? '') ||
  error.message === 'Connection is closed.';

/**
 * Reads why a server closes new connections at once: too many clients, or protected mode. The
 * server says so before it reads anything. A client that has begun to write loses the message to
 * the reset that its own bytes provoke.
 *
 * @returns undefined if the server says nothing, or is not reached by plain TCP
 */
export function refusalAtTheDoor({ options }: Redis): Promise<Error | undefined> {
  const { host, port, path, sentinels, tls } = options;
  if (sentinels || tls || (!path && !port)) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    const socket = path ? connect(path) : connect({ host: host ?? 'localhost', port: port! });
    let heard = '';
    const end = (): void => {
      socket.destroy();
      const refusal = /^-([^\r\n]+)/.exec(heard)?.[1];
      resolve(refusal === undefined ? undefined : new Error(refusal));
    };
    socket.unref().setTimeout(LISTEN_MS, end);
    socket.on('data', (chunk) => {
      heard += chunk.toString('latin1');
      if (heard.includes('\n')) end();
    });
    socket.once('error', end);
    socket.once('end', end);
  });
}
