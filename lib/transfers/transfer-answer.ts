/**
 * The first word of the answers of transfer scripts. Every answer but `Moved` means that nothing
 * was changed.
 */
export const Answer = {
  Moved: 'moved',
  InsufficientFunds: 'insufficient',
  /** A balance would not fit into 64 bits. */
  Overflow: 'overflow',
  /** A balance would not be exact as a JavaScript number. */
  Inexact: 'inexact',
  /** A key holds a string that is no 64-bit integer as Redis spells one. */
  NotAnInteger: 'not-an-integer',
  /** A key is of another type than its use asks for. */
  WrongType: 'wrong-type',
} as const;
