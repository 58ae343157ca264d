/** What the tests use of the ws package, which comes without types. */
declare module 'ws' {
  import { EventEmitter } from 'node:events';

  export class WebSocket extends EventEmitter {
    constructor(url: string);
    send(text: string): void;
    close(): void;
  }
}
