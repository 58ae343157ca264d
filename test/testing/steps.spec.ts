import { Injectable } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  Idempotent,
  IdempotencyService,
  IdempotentRun,
  InjectRun,
  StepInterruptedError,
} from 'nestjs-atomic-redis';
import { AtomicRedisOutcomes, AtomicRedisTestingModule } from 'nestjs-atomic-redis/testing';

@Injectable()
class Payments {
  constructor(@InjectRun() private readonly run: IdempotentRun) {}

  @Idempotent({ operation: 'payments.pay', key: (id: string) => id })
  async pay(_id: string): Promise<object> {
    const charge = await this.run.step('charge', ({ key }) => ({ key }));
    const mail = await this.run.step('mail', () => 'sent');
    return { charge, mail, resumed: this.run.resumed, attempt: this.run.attempt };
  }
}

describe('steps in a unit test', () => {
  const start = async () => {
    const module = await Test.createTestingModule({
      imports: [AtomicRedisTestingModule],
      providers: [Payments],
    }).compile();
    return { module, payments: module.get(Payments), outcomes: module.get(AtomicRedisOutcomes) };
  };

  it('[TEST-1] run normally, and are recorded', async () => {
    const { payments, outcomes, module } = await start();
    expect(await payments.pay('a')).toEqual({
      charge: { key: 'key-for-charge' },
      mail: 'sent',
      resumed: false,
      attempt: 1,
    });
    expect(outcomes.steps).toEqual(['charge', 'mail']);
    expect(await module.get(IdempotencyService).run('k', (run) => run.step('x', () => 1))).toBe(1);
    outcomes.reset();
    expect(outcomes.steps).toEqual([]);
  });

  it('[TEST-1] are finished or interrupted by an earlier attempt that the test sets up', async () => {
    const { payments, outcomes } = await start();
    outcomes.onStep('charge').returns({ key: 'earlier' });
    expect(await payments.pay('a')).toMatchObject({ charge: { key: 'earlier' }, resumed: true, attempt: 2 });
    expect(outcomes.steps).toEqual(['mail']);
    outcomes.onStep('charge').interrupted();
    await expect(payments.pay('a')).rejects.toThrow(StepInterruptedError);
  });
});
