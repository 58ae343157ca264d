import type { Socket } from 'node:net';
import type { ArmedFault } from './fault-rules.js';
import { FrameReader, isResp2Push, isSubscription, readReply, readRequest } from './resp-frames.js';
import type { RedisCommand } from './resp-frames.js';

/** What the proxy is to one of its connections. */
export interface ConnectionOwner {
  readonly paused: boolean;
  onCommand(): void;
  /** The fault that strikes this request, if any; uses up one of its times. */
  takeFault(command: RedisCommand): ArmedFault | undefined;
  /** Requests left the client while it waited for no reply. */
  onRoundTrip(): void;
  onClosed(connection: FaultConnection): void;
}

/**
 * What happens to requests that come now.
 * open: faults are looked up · deliver: all go to the server, no reply comes back · hold: kept for the late delivery ·
 * drop: none goes to the server
 */
type RequestMode = 'open' | 'deliver' | 'hold' | 'drop';

interface Request {
  value: RedisCommand;
  bytes: Buffer;
}

/** What becomes of one awaited reply. `keep` is the number of bytes that pass. */
interface AwaitedReply {
  keep: number;
  delayMs: number;
  /** Closes the client's side after this reply, since the rest of it is lost. */
  closes?: ArmedFault;
  answered?: () => void;
}

const CLOSE_GRACE_MS = 500;

/** One client connection and its own connection to the server. */
export class FaultConnection {
  readonly #requests = new FrameReader(readRequest);
  readonly #replies = new FrameReader(readReply);
  #mode: RequestMode = 'open';
  /** A zombie's client sees nothing more, its end neither; its server connection stays open. */
  #zombie = false;
  #muted = false;
  #awaited: AwaitedReply[] = [];
  #requestQueue: Request[] = [];
  #replyQueue: { bytes: Buffer; awaited: AwaitedReply | undefined }[] = [];
  #requestDelayed = false;
  #replyDelayed = false;
  #subscriber = false;
  #late: { fault: ArmedFault; bytes: Buffer[]; timer: NodeJS.Timeout } | undefined;
  #closeWhenAnswered: ArmedFault | undefined;
  #clientGone = false;
  #serverGone = false;

  constructor(
    private readonly client: Socket,
    private readonly server: Socket,
    private readonly owner: ConnectionOwner,
  ) {
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.on('drain', () => this.#flow(other, socket));
      if (owner.paused) socket.pause();
    }
    server.unref();
    client.on('data', (chunk) => this.#onRequestBytes(chunk));
    server.on('data', (chunk) => this.#onReplyBytes(chunk));
    client.once('close', () => {
      this.#clientGone = true;
      this.#endServerWhenIdle();
    });
    server.once('close', () => this.#onServerClosed());
  }

  /** Stops or resumes reading in both directions, as the owner says. */
  applyPause(): void {
    this.#flow(this.client, this.server);
    this.#flow(this.server, this.client);
  }

  /** From this moment, not from a request on: replies that are awaited vanish too. */
  becomeZombie(): void {
    this.#zombie = true;
    this.#muted = true;
    this.#mode = 'drop';
  }

  /** @param keepHealthy leaves a connection alone that no fault has touched */
  destroy(keepHealthy = false): void {
    const healthy = !this.#zombie && this.#mode === 'open' && !this.#clientGone;
    if (keepHealthy && healthy) return;
    this.#settleLate(false);
    this.client.destroy();
    this.server.destroy();
  }

  #flow(from: Socket, to: Socket): void {
    if (this.owner.paused || to.writableNeedDrain) from.pause();
    else from.resume();
  }

  #onRequestBytes(chunk: Buffer): void {
    const requests = this.#requests.push(chunk);
    if (requests.length > 0 && this.#awaited.length === 0 && this.#requestQueue.length === 0) {
      this.owner.onRoundTrip();
    }
    this.#requestQueue.push(...requests);
    this.#handleRequests();
  }

  #handleRequests(): void {
    while (!this.#requestDelayed) {
      const request = this.#requestQueue.shift();
      if (request === undefined) break;
      this.owner.onCommand();
      if (this.#mode === 'deliver') this.#forward(request, { keep: 0, delayMs: 0 });
      else if (this.#mode === 'hold') this.#late?.bytes.push(request.bytes);
      else if (this.#mode === 'open') this.#handleOpen(request);
    }
    this.#endServerWhenIdle();
  }

  #handleOpen(request: Request): void {
    const fault = this.owner.takeFault(request.value);
    const action = fault?.action;
    if (fault === undefined || action === undefined) {
      this.#forward(request, { keep: Infinity, delayMs: 0 });
    } else if (action.kind === 'lose-reply') {
      this.#mode = 'deliver';
      this.#forward(request, { keep: action.bytes, delayMs: 0, closes: fault });
    } else if (action.kind === 'delay') {
      fault.fire();
      this.#delayRequest(request, action.requestMs, action.replyMs);
    } else if (action.kind === 'black-hole') {
      // Requests before this one are still answered: only this one and what follows vanish.
      this.#mode = action.deliver ? 'deliver' : 'drop';
      this.#zombie = true;
      if (action.deliver) this.#forward(request, { keep: 0, delayMs: 0 });
      fault.fire();
    } else {
      if (action.kind === 'deliver-late') {
        this.#mode = 'hold';
        const timer = setTimeout(() => this.#deliverLate(), action.afterMs);
        this.#late = { fault, bytes: [request.bytes], timer: timer.unref() };
      } else {
        this.#mode = 'drop';
      }
      this.#closeWhenAnswered = fault;
      this.#closeIfAnswered();
    }
  }

  #delayRequest(request: Request, requestMs: number, replyMs: number): void {
    this.#requestDelayed = true;
    setTimeout(() => {
      this.#requestDelayed = false;
      this.#forward(request, { keep: Infinity, delayMs: replyMs });
      this.#handleRequests();
    }, requestMs);
  }

  #forward({ value, bytes }: Request, awaited: AwaitedReply): void {
    if (this.#serverGone) return;
    if (!this.server.write(bytes)) this.client.pause();
    if (isSubscription(value)) {
      // Answered by pushes, one per channel: there is no reply to wait for.
      this.#subscriber = true;
      if (awaited.closes !== undefined) this.#closeClient(awaited.closes);
      return;
    }
    this.#awaited.push(awaited);
  }

  #onReplyBytes(chunk: Buffer): void {
    for (const { value: kind, bytes } of this.#replies.push(chunk)) {
      const push = kind === 'push' || (this.#subscriber && isResp2Push(bytes));
      this.#replyQueue.push({ bytes, awaited: push ? undefined : this.#awaited.shift() });
    }
    this.#handleReplies();
  }

  #handleReplies(): void {
    while (!this.#replyDelayed) {
      const reply = this.#replyQueue.shift();
      if (reply === undefined) break;
      const { bytes, awaited } = reply;
      if (awaited !== undefined && awaited.delayMs > 0) {
        this.#replyDelayed = true;
        setTimeout(() => {
          this.#replyDelayed = false;
          this.#handleReplies();
        }, awaited.delayMs);
        this.#replyQueue.unshift({ bytes, awaited: { ...awaited, delayMs: 0 } });
        break;
      }
      // A push has no place in the order of replies: it passes while the client can still see any.
      const keep = awaited?.keep ?? (this.#mode === 'open' ? Infinity : 0);
      if (keep > 0) this.#toClient(bytes.subarray(0, keep));
      if (awaited?.closes !== undefined) this.#closeClient(awaited.closes);
      awaited?.answered?.();
    }
    this.#closeIfAnswered();
    if (this.#serverGone && !this.#zombie && !this.#replyDelayed) this.#closeClient();
    this.#endServerWhenIdle();
  }

  #toClient(bytes: Buffer): void {
    if (this.client.writable && !this.#muted && !this.client.write(bytes)) this.server.pause();
  }

  get #unanswered(): boolean {
    return this.#awaited.length > 0 || this.#replyQueue.length > 0 || this.#replyDelayed;
  }

  #closeIfAnswered(): void {
    if (this.#closeWhenAnswered === undefined || this.#unanswered) return;
    this.#closeClient(this.#closeWhenAnswered);
    this.#closeWhenAnswered = undefined;
  }

  /** By FIN, after what was written: a reset could take earlier replies with it. */
  #closeClient(fault?: ArmedFault): void {
    if (this.#muted) return;
    this.client.end();
    this.client.resume();
    const force = setTimeout(() => this.client.destroy(), CLOSE_GRACE_MS).unref();
    this.client.once('close', () => clearTimeout(force));
    fault?.fire();
  }

  #deliverLate(): void {
    const late = this.#late;
    if (late === undefined) return;
    this.#mode = 'drop';
    for (const [index] of late.bytes.entries()) {
      const last = index === late.bytes.length - 1;
      this.#awaited.push({
        keep: 0,
        delayMs: 0,
        ...(last && { answered: () => this.#settleLate(true) }),
      });
    }
    this.server.write(Buffer.concat(late.bytes));
  }

  #settleLate(delivered: boolean): void {
    clearTimeout(this.#late?.timer);
    this.#late?.fault.settleDelivery(delivered);
    this.#late = undefined;
  }

  /** The client left: the server gets its end too, once everything that was under way has reached it. */
  #endServerWhenIdle(): void {
    const busy = this.#requestDelayed || this.#requestQueue.length > 0 || this.#late !== undefined;
    if (this.#clientGone && !this.#zombie && !busy) this.server.end();
  }

  #onServerClosed(): void {
    this.#serverGone = true;
    this.#awaited = [];
    this.#settleLate(false);
    this.#handleReplies();
    if (this.#clientGone || this.client.destroyed) return this.owner.onClosed(this);
    this.client.once('close', () => this.owner.onClosed(this));
  }
}
