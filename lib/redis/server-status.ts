import type { Redis } from 'ioredis';
import { addressOf } from './client.js';
import type { Script } from './script.js';
import { parseServerInfo, type ServerInfo } from './server-info.js';

/** How a server is that has answered. */
export interface ServerStatus {
  readonly address: string;
  /** Of a PING, in milliseconds. */
  readonly roundTripMs: number;
  /** Undefined where the user may not ask for it. */
  readonly info: ServerInfo | undefined;
  /** Names of the library's scripts that the server does not hold. Each is sent anew with its next call, so that nothing fails. */
  readonly missingScripts: readonly string[];
}

/** @throws what the server or the connection has against PING */
export async function askStatus(server: Redis, scripts: readonly Script[]): Promise<ServerStatus> {
  const sentAt = performance.now();
  const ping = server.ping().then(() => performance.now() - sentAt);
  // Written with the PING: one round trip. What the user may not ask for is left out.
  const exists = scripts.length === 0 ? [] : server.script('EXISTS', ...scripts.map(({ sha }) => sha));
  const [roundTripMs, info, loaded] = await Promise.all([
    ping,
    server.info().then(parseServerInfo, () => undefined),
    Promise.resolve(exists as Promise<number[]> | number[]).catch(() => undefined),
  ]);
  const missingScripts = scripts.filter((_, i) => loaded?.[i] === 0).map(({ name }) => name);
  return { address: addressOf(server), roundTripMs, info, missingScripts };
}
