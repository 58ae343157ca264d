/** Bytes of responses that all applications of this process hold for recording. */
let used = 0;

/** Bounds the memory of recorded responses, over all registrations of the process. */
export class RecordingBudget {
  /**
   * @param maxBytes the most that may be held before this registration's responses get no more, in
   * bytes
   */
  constructor(private readonly maxBytes: number) {}

  /** Reserves memory. @returns false where there is too little left */
  take(bytes: number): boolean {
    if (used + bytes > this.maxBytes) return false;
    used += bytes;
    return true;
  }

  give(bytes: number): void {
    used -= bytes;
  }

  /** The bytes reserved at present. */
  static get used(): number {
    return used;
  }
}
