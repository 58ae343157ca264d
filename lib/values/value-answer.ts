/** The first word of the answer of a script on a value; a value may follow. */
export const Answer = {
  Swapped: 'SWAPPED',
  /** The value is not the expected one. It follows, unless there is none. */
  Refused: 'REFUSED',
  /** The value follows. */
  Value: 'VALUE',
  Absent: 'ABSENT',
  WrongType: 'WRONG_TYPE',
} as const;

type Word = (typeof Answer)[keyof typeof Answer];

export interface ValueAnswer {
  readonly answer: Word;
  readonly value: Buffer | undefined;
}

export const toValueAnswer = (raw: unknown): ValueAnswer => {
  const [word, value] = raw as [Buffer, Buffer?];
  return { answer: word.toString() as Word, value };
};

/** The time to live that a script gives to a value: keep it, end it, or milliseconds. */
export const TtlChange = { Keep: 'keep', None: 'none' } as const;
