/** The first word of what a script on a value answers with; a value may follow. */
export const Answer = {
  Swapped: 'SWAPPED',
  /** Something else is there than was expected; the value follows, unless there is none. */
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

/** What Redis does with the time to live of a value it writes: keep it, end it, or milliseconds. */
export const TtlChange = { Keep: 'keep', None: 'none' } as const;
