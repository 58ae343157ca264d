import type { ArmedFault } from './fault-rules.js';
import { FrameReader, isResp2Push, readReply } from './resp-frames.js';

/** The fate of one reply that is awaited. */
export interface AwaitedReply {
  /** The number of its bytes that reach the client. */
  keep: number;
  delayMs?: number;
  /** Closes the client's side after what was kept. */
  closes?: ArmedFault;
  answered?: () => void;
  /** The reply itself, which does not come from the server. */
  local?: Buffer;
}

export interface ReplyReceiver {
  /** Pushes reach the client as long as no fault has struck its connection. */
  readonly passesPushes: boolean;
  toClient(bytes: Buffer): void;
  closeClient(fault: ArmedFault): void;
  /** Called when replies have been dealt with. */
  onProgress(): void;
  /** Calls `pass` now, or once a pause has ended. */
  whenFlowing(pass: () => void): void;
}

/**
 * Pairs the server's replies with the requests they answer, in order, and does to each what its
 * request's fault says.
 */
export class ReplyStream {
  readonly #frames = new FrameReader(readReply);
  #awaited: AwaitedReply[] = [];
  #queue: { bytes: Buffer; awaited: AwaitedReply | undefined }[] = [];
  #delayed = false;
  #subscriber = false;

  constructor(private readonly receiver: ReplyReceiver) {}

  /** Nothing is awaited, held back or on its way to the client. */
  get idle(): boolean {
    return this.#awaited.length === 0 && this.#queue.length === 0;
  }

  await(reply: AwaitedReply): void {
    this.#awaited.push(reply);
    if (!reply.local) return;
    this.#takeLocal();
    this.#drain();
  }

  /** A subscription is answered by pushes, one per channel, and not by a reply. */
  awaitPushes(): void {
    this.#subscriber = true;
  }

  /** No more replies will come; those held back still go out. */
  end(): void {
    this.#takeLocal();
    this.#awaited = [];
    this.#drain();
  }

  push(chunk: Buffer): void {
    for (const { value: kind, bytes } of this.#frames.push(chunk)) {
      const push = kind === 'push' || (this.#subscriber && isResp2Push(bytes));
      this.#queue.push({ bytes, awaited: push ? undefined : this.#awaited.shift() });
      this.#takeLocal();
    }
    this.#drain();
  }

  /** Replies that do not come from the server are due once those before them have come. */
  #takeLocal(): void {
    for (let next = this.#awaited[0]; next?.local; next = this.#awaited[0]) {
      this.#awaited.shift();
      this.#queue.push({ bytes: next.local, awaited: next });
    }
  }

  #drain(): void {
    while (!this.#delayed) {
      const reply = this.#queue[0];
      if (reply === undefined) break;
      const { bytes, awaited } = reply;
      if (awaited?.delayMs !== undefined && awaited.delayMs > 0) {
        this.#delayed = true;
        const pass = (): void => {
          this.#delayed = false;
          awaited.delayMs = 0;
          this.#drain();
        };
        setTimeout(() => this.receiver.whenFlowing(pass), awaited.delayMs);
        break;
      }
      this.#queue.shift();
      const keep = awaited?.keep ?? (this.receiver.passesPushes ? Infinity : 0);
      if (keep > 0) this.receiver.toClient(bytes.subarray(0, keep));
      if (awaited?.closes !== undefined) this.receiver.closeClient(awaited.closes);
      awaited?.answered?.();
    }
    this.receiver.onProgress();
  }
}
