import { Logger } from '@nestjs/common';
import { AtomicRedisError } from '../atomic-redis.errors.js';
import { callReplacement, isReplaced } from '../method-wrapping/replaced-service.js';
import { LimitExceededError } from './limit.errors.js';
import type { LimitReservation } from './limit-reservation.js';
import type { LimitsResult } from './limit-result.js';
import { LimitService } from './limit.service.js';
import type { Limit } from './limit.js';
import type { ResolvedRateLimit } from './rate-limit.options.js';
import type { LimitPolicy } from '../problem-details/rate-limit-fields.js';

/** A call that was let through. */
export interface Admission {
  readonly policies: readonly LimitPolicy[];
  /**
   * With `onError: 'refund'`: ends the reservation. Never rejects.
   * @param error with which the call failed; undefined when it did not
   */
  readonly settle: ((error?: unknown) => Promise<void>) | undefined;
}

/** Takes for calls of one decorated method. */
export class RateLimiter {
  private readonly logger = new Logger('RateLimit');

  constructor(private readonly options: ResolvedRateLimit) {}

  /** @throws LimitExceededError when a limit refuses; as `LimitService.take` does */
  async admit(service: LimitService, key: string, cost: number): Promise<Admission> {
    const { rules, call, refundTtlMs } = this.options;
    const limits = rules.map(({ limit }) => ({ ...limit, key: limit.key ?? key, cost }));
    if (refundTtlMs === undefined) {
      const taken = await take(service, limits, call);
      return { policies: this.judged(taken), settle: undefined };
    }
    const reserved = await reserve(service, limits, { ...call, ttlMs: refundTtlMs });
    const policies = this.judged(reserved);
    return { policies, settle: (error) => this.settle(service, reserved.id!, cost, error) };
  }

  private judged({ allowed, retryAfterMs, limits }: LimitsResult): LimitPolicy[] {
    const policies = limits.map(({ limit, remaining, resetMs }, i) => {
      const { name, limit: rule } = this.options.rules[i]!;
      return { name, limit, perMs: rule.perMs, remaining, resetMs };
    });
    if (!allowed) throw new LimitExceededError(retryAfterMs, policies);
    return policies;
  }

  private async settle(service: LimitService, id: string, cost: number, error: unknown): Promise<void> {
    // A call that may have taken effect has its cost.
    const isRefunded =
      error !== undefined && !(error instanceof AtomicRedisError && error.outcome !== 'not-applied');
    try {
      await settle(service, id, isRefunded ? 0 : cost, this.options.call);
    } catch (failure) {
      this.logger.warn(
        `A reservation could not be settled, and gives its cost back when it lapses: ${(failure as Error).message}`,
      );
    }
  }
}

// A test may have replaced the service by an object that has only what the test needs.
const replaced = (service: object) => ({ service, name: 'LimitService', decorator: 'RateLimit' });

type Options = Parameters<LimitService['reserve']>[1];

async function take(service: LimitService, limits: Limit[], call: object): Promise<LimitsResult> {
  if (!isReplaced(service, LimitService)) return await service.take(limits, call);
  return (await callReplacement(replaced(service), 'take', limits, call)) as LimitsResult;
}

async function reserve(service: LimitService, limits: Limit[], options: Options): Promise<LimitReservation> {
  if (!isReplaced(service, LimitService)) return await service.reserve(limits, options);
  return (await callReplacement(replaced(service), 'reserve', limits, options)) as LimitReservation;
}

async function settle(service: LimitService, id: string, actual: number, call: object): Promise<unknown> {
  if (!isReplaced(service, LimitService)) return await service.settle(id, actual, call);
  return await callReplacement(replaced(service), 'settle', id, actual, call);
}
