import type { Redis } from 'ioredis';

/** The slowest line that counts as one: requests take time to be sent although nothing shows. Bytes in a millisecond. */
const SLOWEST_LINE = 512;

/** Pending commands whose size is added up, at the most. */
const MAX_SIZED = 10_000;

interface PendingCommand {
  command: { name: string; args: readonly unknown[] };
}

interface PendingCommands {
  readonly length: number;
  peekAt(index: number): PendingCommand | undefined;
}

const NONE: PendingCommands = { length: 0, peekAt: () => undefined };

/** Commands that wait for their answers. */
export const pendingOf = (client: Redis): PendingCommands =>
  (client as unknown as { commandQueue?: PendingCommands }).commandQueue ?? NONE;

/** Tells whether no call waits for an answer or a message on a connection. */
export const isIdle = (client: Redis): boolean =>
  pendingOf(client).length === 0 && !client.condition?.subscriber;

/** Returns how much longer than usual a connection may be silent, in milliseconds: for requests on their way, and for commands that block. */
export function patienceFor(client: Redis): number {
  const pending = pendingOf(client);
  let bytes = 0;
  let blockingMs = 0;
  for (let i = 0; i < Math.min(pending.length, MAX_SIZED); i++) {
    const { name, args } = pending.peekAt(i)!.command;
    blockingMs += blockingMsOf(name, args);
    for (const arg of args) if (typeof arg === 'string' || Buffer.isBuffer(arg)) bytes += arg.length;
  }
  return bytes / SLOWEST_LINE + blockingMs;
}

/** Tells whether the next answer is that to a command that blocks. */
export function isBlocked(client: Redis): boolean {
  const next = pendingOf(client).peekAt(0)?.command;
  return next !== undefined && blockingMsOf(next.name, next.args) > 0;
}

function blockingMsOf(name: string, args: readonly unknown[]): number {
  switch (name.toLowerCase()) {
    case 'blmove':
    case 'bzpopmin':
      return Number(args.at(-1)) * 1_000;
    case 'wait':
    case 'waitaof':
      return Number(args.at(-1));
    default:
      return 0;
  }
}

/** Bytes that the system has not taken yet: Node.js's own measure, by which its socket time-outs tell progress too. */
export function bytesToWrite(stream: Redis['stream']): number {
  const { _handle: handle } = stream as { _handle?: { writeQueueSize?: number } };
  return stream.writableLength + (handle?.writeQueueSize ?? 0);
}
