import { Command, type Redis } from 'ioredis';
import type { CommitMarker } from './commit-marker.js';

/** What is put together before it is written, in characters: no string can hold any number of large values. */
const MAX_TEXT = 1_024 * 1_024;

/**
 * A connection that transactions take turns on, with the marker that goes with it. What is sent in one tick leaves as one piece of text: to
 * write it is what costs most, and a string or a Buffer for each command would cost more than to put them together.
 */
export class TransactionConnection {
  /**
   * Those that are not done with it: at most two, the one that has written EXEC and handed it on, and the next, whose WATCH goes out behind that.
   */
  users = 0;
  /** It is not lent any more, and closed as soon as it has no users. */
  isDropped = false;
  private isDiscarded = false;
  /** Sent in this tick, and not yet written. */
  private text = '';
  private isGathering = false;

  constructor(
    private readonly redis: Redis,
    readonly marker: CommitMarker,
  ) {}

  /** For who sends something by itself, at once: it comes behind what was sent before. */
  get client(): Redis {
    this.flush();
    return this.redis;
  }

  get isReady(): boolean {
    // A closed client goes on being 'ready' until its socket has ended.
    return !this.isDiscarded && this.redis.status === 'ready';
  }

  discard(): void {
    if (this.isDiscarded) return;
    this.flush();
    this.isDiscarded = true;
    this.redis.disconnect();
  }

  command(
    name: string,
    args: readonly unknown[] = [],
    replyEncoding: BufferEncoding | null = 'utf8',
  ): Command {
    const { keyPrefix } = this.redis.options;
    return new Command(name, args as string[], { keyPrefix, replyEncoding });
  }

  /** Sends it with whatever else is sent in this tick. */
  send(command: Command): Promise<unknown> {
    if (!this.isGathering) {
      this.isGathering = true;
      process.nextTick(() => {
        this.isGathering = false;
        this.flush();
      });
    }
    return this.redis.sendCommand(command, this.sink) as Promise<unknown>;
  }

  private readonly sink = {
    write: (piece: string | Buffer): void => {
      if (typeof piece !== 'string') return void this.client.stream.write(piece);
      if (this.text.length + piece.length > MAX_TEXT) this.flush();
      this.text += piece;
    },
  } as unknown as Redis['stream'];

  private flush(): void {
    if (this.text === '') return;
    this.redis.stream.write(this.text);
    this.text = '';
  }
}
