import type { Redis } from 'ioredis';

/**
 * The slowest line that is allowed for, in bytes per millisecond: a request takes time to be sent
 * although no byte is seen to move.
 */
const SLOWEST_LINE = 512;

/** The most pending commands whose sizes are added up. */
const MAX_SIZED = 10_000;

interface PendingCommand {
  command: { name: string; args: readonly unknown[] };
}

interface PendingCommands {
  readonly length: number;
  peekAt(index: number): PendingCommand | undefined;
}

const NONE: PendingCommands = { length: 0, peekAt: () => undefined };

/** Returns the commands that wait for their replies. */
export const pendingOf = (client: Redis): PendingCommands =>
  (client as unknown as { commandQueue?: PendingCommands }).commandQueue ?? NONE;

/** Returns true if no call waits for a reply or a message on a connection. */
export const isIdle = (client: Redis): boolean =>
  pendingOf(client).length === 0 && !client.condition?.subscriber;

/**
 * Returns how much longer than usual a connection may be silent, in milliseconds: for requests on
 * their way, and for commands that block.
 */
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

/** Returns true if the next reply is that of a command that blocks. */
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

/**
 * Returns the bytes that the system has not taken yet. Node.js measures the progress of socket
 * time-outs by the same number.
 */
export function bytesToWrite(stream: Redis['stream']): number {
  const { _handle: handle } = stream as { _handle?: { writeQueueSize?: number } };
  return stream.writableLength + (handle?.writeQueueSize ?? 0);
}
