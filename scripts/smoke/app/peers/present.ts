import assert from 'node:assert/strict';
import { Controller, Get, type INestApplication } from '@nestjs/common';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import { HealthCheck, HealthCheckService, TerminusModule } from '@nestjs/terminus';
import { AtomicRedisHealthIndicator } from 'nestjs-atomic-redis/health';
import { openTelemetry } from 'nestjs-atomic-redis/opentelemetry';

export { ApiIdempotent } from 'nestjs-atomic-redis/openapi';

@Controller('health')
class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly redis: AtomicRedisHealthIndicator,
  ) {}

  @Get()
  @HealthCheck()
  check() {
    return this.health.check([() => this.redis.isHealthy('redis')]);
  }
}

export const optional = {
  imports: [TerminusModule],
  controllers: [HealthController],
  providers: [AtomicRedisHealthIndicator],
};

export async function tryOptional(app: INestApplication, url: string): Promise<void> {
  const { paths } = SwaggerModule.createDocument(app, new DocumentBuilder().build());
  const responses = paths['/orders']?.post?.responses ?? {};
  assert.deepEqual(Object.keys(responses).toSorted(), ['2XX', '400', '409', '422', '503']);
  const health = (await (await fetch(`${url}/health`)).json()) as { details: { redis: { status: string } } };
  assert.equal(health.details.redis.status, 'up');
  assert.equal(typeof openTelemetry().attach, 'function');
  console.log('OpenAPI, health and OpenTelemetry: the route is documented, and Redis is up');
}
