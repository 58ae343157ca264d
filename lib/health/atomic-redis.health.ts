import { Injectable } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { HealthIndicatorService, type HealthIndicatorResult } from '@nestjs/terminus';
import { getAtomicRedisToken } from '../atomic-redis.constants.js';
import { ConfigurationError, describe } from '../atomic-redis.errors.js';
import { AtomicRedis } from '../atomic-redis.js';
import * as check from '../atomic-redis.validation.js';
import type { ServerStatus } from '../connection/server-status.js';

/** @inline */
export interface HealthOptions {
  /** Time for all servers to answer, connecting included, in milliseconds. @default 1000 */
  timeoutMs?: number;
  /** The registration to examine. Default: the unnamed one. */
  name?: string;
}

const checkHealthOptions = check.options({
  timeoutMs: check.waitMs(),
  name: check.nonEmptyString,
} satisfies Record<keyof HealthOptions, check.Check>);

/**
 * Reports the health of a registration of `AtomicRedisModule` to @nestjs/terminus. Provide it
 * beside a controller with `HealthCheckService`, and import `TerminusModule` there.
 *
 * ```ts
 * @Get('health') @HealthCheck()
 * check() {
 *   return this.health.check([() => this.redis.isHealthy('redis'), () => this.redis.isHealthy('orders', { name: 'orders', timeoutMs: 500 })]);
 * }
 * ```
 */
@Injectable()
export class AtomicRedisHealthIndicator {
  constructor(
    private readonly indicators: HealthIndicatorService,
    private readonly moduleRef: ModuleRef,
  ) {}

  /**
   * Returns up if the server, or every master of a Cluster, answers a PING in time; otherwise down,
   * with the reason as `message`. Both hold the state of the transaction pool and the permits. Up
   * also holds the number of idempotency keys that wait for an operator (`heldKeys`, not on a
   * Cluster), each server's version and round trip, and `warnings` of things that stop no call: an
   * eviction policy, scripts that the server has forgotten.
   *
   * @throws InvalidArgumentError for a wrong option; ConfigurationError when there is no
   * registration of that name
   */
  async isHealthy<Key extends string>(
    key: Key,
    options: HealthOptions = {},
  ): Promise<HealthIndicatorResult<Key>> {
    checkHealthOptions('options', options);
    const { name, timeoutMs = 1_000 } = options;
    const { error, servers, transactions, permits, operationsInFlight, heldKeys } = await this.registration(
      name,
    ).status({ timeoutMs });
    const indicator = this.indicators.check(key);
    const load = { transactions, permits, operationsInFlight };
    if (error) return indicator.down({ message: error.message, code: error.code, ...load });
    const warnings = servers.flatMap(warningsOf);
    return indicator.up({
      servers: servers.map(summary),
      ...load,
      ...(heldKeys !== undefined ? { heldKeys } : {}),
      ...(warnings.length > 0 ? { warnings } : {}),
    });
  }

  private registration(name: string | undefined): AtomicRedis {
    try {
      return this.moduleRef.get<AtomicRedis>(getAtomicRedisToken(name), { strict: false });
    } catch (cause) {
      throw new ConfigurationError(
        `No AtomicRedisModule is registered${name === undefined ? '' : ` as ${describe(name)}`}`,
        { cause },
      );
    }
  }
}

const summary = ({ address, role, database, roundTripMs, info }: ServerStatus) => ({
  address,
  ...(role ? { role } : {}),
  database,
  ...(info ? { product: info.product, version: info.version } : {}),
  roundTripMs: Math.round(roundTripMs * 100) / 100,
});

function warningsOf({ address, info, missingScripts }: ServerStatus): string[] {
  const warnings: string[] = [];
  if (info?.evictionPolicy)
    warnings.push(`${address} evicts keys when its memory is full (maxmemory-policy ${info.evictionPolicy})`);
  if (missingScripts.length > 0)
    warnings.push(
      `${address} does not hold ${missingScripts.length} scripts; each is sent anew when it is called`,
    );
  return warnings;
}
