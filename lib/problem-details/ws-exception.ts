import type { ArgumentsHost } from '@nestjs/common';
import type { ErrorMessage } from './problem.js';

interface WsClient {
  /** The method of a plain WebSocket. */
  readonly readyState?: unknown;
  send(text: string): void;
  /** The method of Socket.IO. */
  emit(event: string, data: unknown): void;
}

/**
 * Sends `exception` with the message that led to it, as Nest's own filter does. That filter is in a
 * package that not every application has.
 */
export function sendException(error: ErrorMessage, host: ArgumentsHost): void {
  const ws = host.switchToWs();
  const client = ws.getClient<WsClient>();
  const data = { ...error, cause: { pattern: ws.getPattern(), data: ws.getData<unknown>() } };
  // A WebSocket of the ws package has an `emit` too, but that stays in this process.
  if (typeof client.readyState === 'number') client.send(JSON.stringify({ event: 'exception', data }));
  else client.emit('exception', data);
}
