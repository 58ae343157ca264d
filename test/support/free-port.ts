import { createServer } from 'node:net';

/**
 * Below the range from which the system takes ports for outgoing connections: until a server
 * listens on it, a port stays free.
 */
const PORTS = { from: 10_000, to: 22_000 };

/** Returns a port that is free, and so is the one that lies `offset` above it. */
export async function freePort(offset = 0): Promise<number> {
  for (;;) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from));
    if ((await isFree(port)) && (await isFree(port + offset))) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
