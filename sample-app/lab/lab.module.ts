import { Module, type DynamicModule } from '@nestjs/common';
import { LabController } from './lab.controller.js';
import { EMBEDDED_REDIS_URL, LabService } from './lab.service.js';

@Module({ controllers: [LabController], providers: [LabService] })
export class LabModule {
  static on(redisUrl: string): DynamicModule {
    return { module: LabModule, providers: [{ provide: EMBEDDED_REDIS_URL, useValue: redisUrl }] };
  }
}
