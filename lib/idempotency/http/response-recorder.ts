import type { TombstoneReason } from '../idempotency.errors.js';
import type { RecordingBudget } from './recording-budget.js';
import type { WireResponse } from './wire-response.js';

/** A response that has ended, as its recorder learns of it. */
export interface Ended {
  readonly status: number;
  /** The response, where it is whole and was recorded. */
  readonly response: WireResponse | undefined;
  /** The reason why it was not. */
  readonly reason: TombstoneReason;
}

/** Decides about a response while it is tapped. */
export interface Recorder {
  /** The longest body that is recorded, in bytes. */
  readonly maxBytes: number;
  readonly budget: RecordingBudget;
  /** True if bytes go to the client as they come. */
  readonly streams: boolean;
  /** The headers that are recorded, in lower case. */
  readonly replayHeaders: readonly string[];
  /**
   * Returns true if the response is the handler's or was made from its outcome, and false if
   * another component answered while it ran.
   */
  isOwn(status: number): boolean;
  /** Called when more of a body arrives. */
  wrote(): void;
  /**
   * Called once, when the response has ended. Its end goes to the client when this has resolved.
   */
  ended(ended: Ended): Promise<void>;
  /**
   * Called once, in place of `ended`, when the response is `taken` by another or `broken`. It
   * passes from then on.
   * @param status the status that the client has, if it has one
   */
  lost(how: 'taken' | 'broken', status: number | undefined): void;
  /** Called when the client has gone. */
  gone(): void;
}
