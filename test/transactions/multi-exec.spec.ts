import { Command } from 'ioredis';
import { multiExec, RanOutsideMulti } from '../../lib/transactions/multi-exec.js';
import type { TransactionConnection } from '../../lib/transactions/transaction-connection.js';

/** A server that answers each command of one MULTI, EXEC included, as told. */
const answering = (answers: readonly unknown[]): TransactionConnection => {
  const left = [...answers];
  const send = (command: Command): Promise<unknown> => {
    const answer = left.shift();
    if (answer instanceof Error) command.reject(answer);
    else command.resolve(answer);
    return command.promise;
  };
  return {
    command: (name: string, args: string[] = []) => new Command(name, args, { replyEncoding: null }),
    send,
  } as unknown as TransactionConnection;
};

describe('a MULTI on a server that goes on after a refusal', () => {
  it('[DFLY-1] is told from a whole one by the number of replies, which go to the commands that were done', async () => {
    const refusal = new Error('ERR wrong number of arguments');
    const connection = answering(['OK', 'QUEUED', refusal, 'QUEUED', [1, 2]]);
    const commands = ['a', 'b', 'c'].map((key) => ({ name: 'incr', args: [key] }));
    const failure: unknown = await multiExec(connection, commands).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(RanOutsideMulti);
    expect(failure).toMatchObject({ cause: refusal, isMulti: false, replies: [1, refusal, 2] });
  });
});
