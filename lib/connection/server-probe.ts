import { connect } from 'node:net';
import type { Redis } from 'ioredis';
import { Deadline } from '../runtime/deadline.js';
import { replyCode } from './reply-errors.js';

/** Findings of a new connection about the server behind a silent one. */
export type ProbeResult =
  /** The server answers there, so the silent connection is dead. */
  | 'answers'
  /**
   * The server accepts connections and answers none: it is busy, stopped for a while, or holds
   * writes back.
   */
  | 'busy'
  /** The server is gone. */
  | 'gone';

const PROBE_MS = 1_000;

/** Refusals by which a server says that it cannot answer calls now. */
const BUSY = new Set(['BUSY', 'LOADING']);

/**
 * Probes a server on a new connection. The probe is a write that does nothing, since a server may
 * answer PING while it holds writes back (CLIENT PAUSE, a failover that is being prepared).
 *
 * @param open opens a client, not yet connected, as the silent one was
 */
export async function probeServer(silent: Redis, open: () => Redis, absentKey: string): Promise<ProbeResult> {
  const accepted = isAccepted(silent);
  const client = open();
  try {
    const answer = await Deadline.in(PROBE_MS)
      .race(answerOf(client, absentKey), () => new Error('not in time'))
      .catch(() => undefined);
    if (answer !== undefined) return BUSY.has(answer) ? 'busy' : 'answers';
    return (await accepted) ? 'busy' : 'gone';
  } finally {
    client.disconnect();
  }
}

/** Returns the first word of the reply; undefined if the connection failed before there was one. */
async function answerOf(client: Redis, absentKey: string): Promise<string | undefined> {
  let refusal: string | undefined;
  client.on('error', (error: Error) => (refusal ??= replyCode(error)));
  try {
    await client.connect();
    await client.set(absentKey, '', 'XX');
    return 'OK';
  } catch (error) {
    // A refusal is a reply too: of the credentials, of the number of clients, of the command.
    return replyCode(error) ?? refusal;
  }
}

/** Returns true if the address of the silent connection accepts TCP connections. */
function isAccepted({ stream, options }: Redis): Promise<boolean> {
  const { remoteAddress: host, remotePort: port } = stream;
  return new Promise((resolve) => {
    if (!options.path && (!host || !port)) return resolve(false);
    const socket = options.path ? connect(options.path) : connect({ host: host!, port: port! });
    const end = (isOpen: boolean) => (): void => {
      socket.destroy();
      resolve(isOpen);
    };
    socket.unref().setTimeout(PROBE_MS, end(false));
    socket.once('connect', end(true));
    socket.once('error', end(false));
  });
}
