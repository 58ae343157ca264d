import type { ArgumentsHost } from '@nestjs/common';
import type { ErrorMessage } from './problem.js';

interface WsClient {
  /** Of a WebSocket as such. */
  readonly readyState?: unknown;
  send(text: string): void;
  /** Of Socket.IO. */
  emit(event: string, data: unknown): void;
}

/** As Nest's own filter does, which lies in a package that not every application has: `exception`, with the message that led to it. */
export function sendException(error: ErrorMessage, host: ArgumentsHost): void {
  const ws = host.switchToWs();
  const client = ws.getClient<WsClient>();
  const data = { ...error, cause: { pattern: ws.getPattern(), data: ws.getData<unknown>() } };
  // A WebSocket of the ws package has an `emit` too, which stays in this process.
  if (typeof client.readyState === 'number') client.send(JSON.stringify({ event: 'exception', data }));
  else client.emit('exception', data);
}
