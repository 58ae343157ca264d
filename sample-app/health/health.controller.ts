import { Controller, Get } from '@nestjs/common';
import { HealthCheck, HealthCheckService, type HealthCheckResult } from '@nestjs/terminus';
import { AtomicRedisHealthIndicator } from 'nestjs-atomic-redis/health';

@Controller('health')
export class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly redis: AtomicRedisHealthIndicator,
  ) {}

  /** Reports the shop's health: 503 while Redis does not answer. */
  @Get()
  @HealthCheck()
  async check(): Promise<HealthCheckResult> {
    return await this.health.check([() => this.redis.isHealthy('redis')]);
  }
}
