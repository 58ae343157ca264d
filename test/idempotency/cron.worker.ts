import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Cron, ScheduleModule } from '@nestjs/schedule';
import { Redis } from 'ioredis';
import { AtomicRedisModule, Idempotent } from '../../lib/index.js';
import { worker } from '../support/worker.js';
import { CALLED_KEY, RAN_KEY } from './cron-keys.js';

export interface CronData {
  url: string;
}

/** Fires every second, until it is killed. */
worker<CronData>(async ({ data, send }) => {
  const log = new Redis(data.url);
  const tick = (): string => String(Math.round(Date.now() / 1_000));

  @Injectable()
  class Reports {
    @Cron('* * * * * *')
    async fire(): Promise<void> {
      const now = tick();
      await log.rpush(CALLED_KEY, now);
      await this.report(now);
    }

    @Idempotent({ operation: 'reports.report', key: (at: string) => at, onDuplicate: 'wait' })
    async report(at: string): Promise<void> {
      await log.rpush(RAN_KEY, at);
    }
  }

  @Module({
    imports: [
      ScheduleModule.forRoot(),
      AtomicRedisModule.forRoot({ namespace: 'atomic:', connection: data.url }),
    ],
    providers: [Reports],
  })
  class App {}

  await NestFactory.createApplicationContext(App, { logger: false });
  send('ready');
  await new Promise(() => undefined);
});
