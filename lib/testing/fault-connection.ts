import type { Socket } from 'node:net';
import { ReplyStream, type AwaitedReply, type ReplyReceiver } from './fault-replies.js';
import type { ArmedFault } from './fault-rules.js';
import { FrameReader, isSubscription, readRequest, type RedisCommand } from './resp-frames.js';
import { SlowLine, type LineState } from './slow-line.js';

/** The part of the proxy that one of its connections needs. */
export interface ConnectionOwner extends LineState {
  onCommand(): void;
  /** The fault that strikes this request, if any; uses up one of its times. */
  takeFault(command: RedisCommand): ArmedFault | undefined;
  /** Requests left the client while it waited for no reply. */
  onRoundTrip(): void;
  onClosed(connection: FaultConnection): void;
}

/**
 * The fate of requests that come now. open: faults are looked up · deliver: all go to the
 * server, no reply comes back · hold: kept for the late delivery · drop: none goes to the server
 */
type RequestMode = 'open' | 'deliver' | 'hold' | 'drop';

interface Request {
  value: RedisCommand;
  bytes: Buffer;
}

const CLOSE_GRACE_MS = 500;

/** One client connection and its own connection to the server. */
export class FaultConnection implements ReplyReceiver {
  readonly #requests = new FrameReader(readRequest);
  readonly #replies = new ReplyStream(this);
  #queue: Request[] = [];
  /** The deliveries that became due while the owner was paused. */
  #held: (() => void)[] = [];
  readonly #toClient: SlowLine;
  #isReadingSlowly = false;
  #delayed = false;
  #mode: RequestMode = 'open';
  /** The client's end is kept from the server and the server's from the client. */
  #zombie = false;
  /** The client sees nothing more, replies to earlier requests included. */
  #muted = false;
  #late: { fault: ArmedFault; bytes: Buffer[]; timer: NodeJS.Timeout } | undefined;
  #closeWhenAnswered: ArmedFault | undefined;
  #clientGone = false;
  #serverGone = false;

  constructor(
    private readonly client: Socket,
    private readonly server: Socket,
    private readonly owner: ConnectionOwner,
  ) {
    this.#toClient = new SlowLine(client, owner);
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      socket.setNoDelay(true);
      // 'close' follows, and says all there is to know.
      socket.on('error', () => {});
      socket.on('drain', () => this.#flow(other, socket));
      if (owner.paused) socket.pause();
    }
    server.unref();
    client.on('data', (chunk) => {
      this.#onRequestBytes(chunk);
      this.#readSlowly(chunk.length);
    });
    server.on('data', (chunk) => this.#replies.push(chunk));
    client.once('close', () => {
      this.#clientGone = true;
      this.#endServerWhenIdle();
    });
    server.once('close', () => this.#onServerClosed());
  }

  get passesPushes(): boolean {
    return this.#mode === 'open';
  }

  /** Stops or resumes reading in both directions, as the owner says. */
  applyPause(): void {
    this.#flow(this.client, this.server);
    this.#flow(this.server, this.client);
    if (this.owner.paused) return;
    for (const pass of this.#held.splice(0)) pass();
    this.#toClient.flow();
  }

  whenFlowing(pass: () => void): void {
    if (this.owner.paused) this.#held.push(pass);
    else pass();
  }

  becomeZombie(): void {
    this.#zombie = true;
    this.#muted = true;
    this.#mode = 'drop';
    this.#toClient.clear();
  }

  /** @param keepHealthy leaves a connection alone that no fault has touched */
  destroy(keepHealthy = false): void {
    const healthy = this.#mode === 'open' && !this.#clientGone;
    if (keepHealthy && healthy) return;
    this.#settleLate(false);
    this.client.destroy();
    this.server.destroy();
  }

  toClient(bytes: Buffer): void {
    if (this.client.writable && !this.#muted && !this.#toClient.write(bytes)) this.server.pause();
  }

  /** By FIN, after what was written: a reset could take earlier replies with it. */
  closeClient(fault?: ArmedFault): void {
    if (this.#muted) return;
    this.#toClient.whenWritten(() => {
      this.client.end();
      this.client.resume();
      const force = setTimeout(() => this.client.destroy(), CLOSE_GRACE_MS).unref();
      this.client.once('close', () => clearTimeout(force));
      fault?.fire();
    });
  }

  onProgress(): void {
    const { idle } = this.#replies;
    if (idle && this.#closeWhenAnswered !== undefined) {
      this.closeClient(this.#closeWhenAnswered);
      this.#closeWhenAnswered = undefined;
    }
    if (idle && this.#serverGone && !this.#zombie) this.closeClient();
    this.#endServerWhenIdle();
  }

  #flow(from: Socket, to: Socket): void {
    const isHeld = from === this.client && this.#isReadingSlowly;
    if (this.owner.paused || to.writableNeedDrain || isHeld) from.pause();
    else from.resume();
  }

  /** Reads no more requests for as long as these bytes take on a line of the owner's speed. */
  #readSlowly(bytes: number): void {
    const { bytesPerMs } = this.owner;
    if (bytesPerMs === undefined) return;
    this.#isReadingSlowly = true;
    this.client.pause();
    setTimeout(() => {
      this.#isReadingSlowly = false;
      this.#flow(this.client, this.server);
    }, bytes / bytesPerMs);
  }

  #onRequestBytes(chunk: Buffer): void {
    const requests = this.#requests.push(chunk);
    if (requests.length > 0 && this.#replies.idle && this.#queue.length === 0) this.owner.onRoundTrip();
    this.#queue.push(...requests);
    this.#handleRequests();
  }

  #handleRequests(): void {
    while (!this.#delayed) {
      const request = this.#queue.shift();
      if (request === undefined) break;
      this.owner.onCommand();
      if (this.#mode === 'deliver') this.#forward(request, { keep: 0 });
      else if (this.#mode === 'hold') this.#late?.bytes.push(request.bytes);
      else if (this.#mode === 'open') this.#handleOpen(request);
    }
    this.#endServerWhenIdle();
  }

  #handleOpen(request: Request): void {
    const fault = this.owner.takeFault(request.value);
    if (fault === undefined) return this.#forward(request, { keep: Infinity });
    const { action } = fault;
    switch (action.kind) {
      case 'lose-reply':
        this.#mode = 'deliver';
        this.#forward(request, { keep: action.bytes, closes: fault });
        break;
      case 'delay':
        this.#delayed = true;
        this.#after(action.requestMs, () => {
          this.#delayed = false;
          this.#forward(request, { keep: Infinity, delayMs: action.replyMs });
          this.#handleRequests();
        });
        fault.fire();
        break;
      case 'black-hole':
        // Not muted: requests before this one are still answered.
        this.#zombie = true;
        this.#mode = action.deliver ? 'deliver' : 'drop';
        if (action.deliver) this.#forward(request, { keep: 0 });
        fault.fire();
        break;
      case 'deliver-late': {
        this.#mode = 'hold';
        const timer = this.#after(action.afterMs, () => this.#deliverLate()).unref();
        this.#late = { fault, bytes: [request.bytes], timer };
        this.#closeWhenAnswered = fault;
        this.onProgress();
        break;
      }
      case 'answer':
        this.#replies.await({ keep: Infinity, local: action.reply });
        fault.fire();
        break;
      case 'cut':
        this.#mode = 'drop';
        this.#closeWhenAnswered = fault;
        this.onProgress();
        break;
    }
  }

  #after(ms: number, pass: () => void): NodeJS.Timeout {
    return setTimeout(() => this.whenFlowing(pass), ms);
  }

  #forward({ value, bytes }: Request, awaited: AwaitedReply): void {
    if (this.#serverGone) return;
    if (!this.server.write(bytes)) this.client.pause();
    if (!isSubscription(value)) return this.#replies.await(awaited);
    this.#replies.awaitPushes();
    if (awaited.closes !== undefined) this.closeClient(awaited.closes);
  }

  #deliverLate(): void {
    const late = this.#late;
    if (late === undefined) return;
    // Closed before the request came to be held: no answer will.
    if (this.#serverGone) return this.#settleLate(false);
    this.#mode = 'drop';
    const last = late.bytes.length - 1;
    for (const index of late.bytes.keys()) {
      this.#replies.await({ keep: 0, ...(index === last && { answered: () => this.#settleLate(true) }) });
    }
    this.server.write(Buffer.concat(late.bytes));
  }

  #settleLate(delivered: boolean): void {
    clearTimeout(this.#late?.timer);
    this.#late?.fault.settleDelivery(delivered);
    this.#late = undefined;
  }

  /**
   * The client left: the server gets its end too, once everything that was under way has reached
   * it.
   */
  #endServerWhenIdle(): void {
    const underWay = this.#delayed || this.#queue.length > 0 || this.#late !== undefined;
    if (this.#clientGone && !this.#zombie && !underWay) this.server.end();
  }

  #onServerClosed(): void {
    this.#serverGone = true;
    this.#settleLate(false);
    this.#replies.end();
    if (this.#clientGone || this.client.destroyed) this.owner.onClosed(this);
    else this.client.once('close', () => this.owner.onClosed(this));
  }
}
