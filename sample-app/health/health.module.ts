import { Module } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { AtomicRedisHealthIndicator } from 'nestjs-atomic-redis/health';
import { HealthController } from './health.controller.js';

@Module({
  imports: [TerminusModule],
  controllers: [HealthController],
  providers: [AtomicRedisHealthIndicator],
})
export class HealthModule {}
