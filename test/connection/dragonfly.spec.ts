import { Test } from '@nestjs/testing';
import {
  AtomicRedisModule,
  defineScript,
  InvalidArgumentError,
  OutcomeUnknownError,
  PartialCommitError,
  RedisReplyError,
  ScriptService,
  TransactionService,
} from '../../lib/index.js';
import { startFaultProxy } from '../../lib/testing/index.js';
import { USER } from '../support/least-rights.js';
import { DOUBLE, useTarget } from '../support/target.js';

/** As TypeScript would not let anybody call it. */
type Loose = Record<string, (...args: unknown[]) => unknown>;

describe('Dragonfly', () => {
  const target = useTarget(DOUBLE, { asUser: true });
  const allow = (...rules: string[]) => target.client.call('ACL', 'SETUSER', USER, ...rules);

  describe('after a command that it refuses within a MULTI', () => {
    afterEach(() => allow('+incrby', '-incrby', '+set', '+rpush', '+xadd'));

    it.each([
      ['of a wrong number of arguments', 'setex', ['app:{a}:b', 1]],
      ['that it does not know', 'hgetdel2', ['app:{a}:b']],
    ])('[SRV-21] does nothing of a transaction with a command %s: it is not sent', async (_, name, args) => {
      let runs = 0;
      const running = target.redis.transactions.run(['app:{a}:k'], async (tx) => {
        runs++;
        await tx.read.get('app:{a}:k');
        const write = tx.write as unknown as Loose;
        write['set']!('app:{a}:k', 1);
        (write[name] ?? ((...given: unknown[]) => write['enqueue']!(name, given)))(...args);
        write['set']!('app:{a}:c', 1);
      });
      await expect(running).rejects.toBeInstanceOf(Error);
      expect(runs).toBe(1);
      expect(await target.client.exists('app:{a}:k', 'app:{a}:c')).toBe(0);
    });
  });
});
