import type { Redis } from 'ioredis';
import { InvalidArgumentError, RedisReplyError } from '../../lib/index.js';
import { countCommands } from './command-stats.js';

export type WrongCall = readonly [argument: string, call: () => unknown];

/** Expects each call to be refused with an error that names the argument, before any command. */
export async function expectWrongArguments(client: Redis, calls: readonly WrongCall[]): Promise<void> {
  const used = await countCommands(client, async () => {
    for (const [argument, call] of calls)
      await expect((async () => call())()).rejects.toMatchObject({
        constructor: InvalidArgumentError,
        argument,
      });
  });
  expect(used).toEqual({});
}

/** Expects each call to have failed for want of memory, with nothing done. */
export function expectOutOfMemory(refused: readonly PromiseSettledResult<unknown>[]): void {
  for (const one of refused) {
    const { reason } = one as PromiseRejectedResult;
    expect(reason).toBeInstanceOf(RedisReplyError);
    expect(reason).toMatchObject({ reply: 'OOM', outcome: 'not-applied', retryable: true });
  }
}
