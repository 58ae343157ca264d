import { Controller, Inject, Injectable, Param, Post, type INestApplication } from '@nestjs/common';
import {
  InjectTransaction,
  InvalidArgumentError,
  LeaseLostError,
  OptimisticRetry,
  PermitService,
  PermitUnavailableError,
  Transaction,
  WithPermit,
} from 'nestjs-atomic-redis';
import { useApp } from '../support/app.js';
import { useRedis } from '../support/redis.js';
import { slotKeysOf } from './permits-app.js';

const nameOf = (id: string): string => `report:{${id}}`;

@Injectable()
class Reports {
  running = 0;
  most = 0;
  during: () => Promise<unknown> = () => Promise.resolve();

  constructor(
    @Inject(PermitService) readonly permits: PermitService,
    @InjectTransaction() readonly tx: Transaction,
  ) {}

  @WithPermit({ name: nameOf, limit: 2, waitMs: 60_000 })
  async build(id: string): Promise<string> {
    this.running++;
    this.most = Math.max(this.most, this.running);
    await new Promise((resolve) => setTimeout(resolve, 5));
    this.running--;
    return `${id} under ${this.permits.current().name}`;
  }

  @WithPermit({ name: nameOf, waitMs: 0 })
  @OptimisticRetry({ watch: (id: string) => `{${id}}:n`, permit: 'current' })
  async count(id: string): Promise<void> {
    await this.tx.read.get(`{${id}}:n`);
    await this.during();
    this.tx.write.incr(`{${id}}:n`);
  }
}

@Controller('reports')
class ReportsController {
  constructor(@Inject(Reports) private readonly reports: Reports) {}

  @Post(':id')
  count(@Param('id') id: string): Promise<void> {
    return this.reports.count(id);
  }
}

describe('@WithPermit', () => {
  const boot = useApp();
  const redis = useRedis();
  let app: INestApplication;
  let reports: Reports;

  beforeEach(async () => {
    app = await boot.http(
      { connection: redis.server.url },
      { providers: [Reports], controllers: [ReportsController] },
    );
    reports = app.get(Reports);
  });

  it('[PM-8] runs as many calls at a time as its limit, under a permit of the name that the callback returns', async () => {
    const results = await Promise.all(Array.from({ length: 10 }, () => reports.build('7')));
    expect(new Set(results)).toEqual(new Set(['7 under report:{7}']));
    expect(reports.most).toBe(2);
    expect(await slotKeysOf(redis.client)).toEqual([]);
  });

  it('[PM-8] enforces the permit in the transaction below it', async () => {
    await reports.count('7');
    reports.during = async () => {
      const [key] = await slotKeysOf(redis.client);
      await redis.client.del(key!);
    };
    await expect(reports.count('7')).rejects.toBeInstanceOf(LeaseLostError);
    expect(await redis.client.get('{7}:n')).toBe('1');
  });

  it('[PM-8] rejects while others hold the permit, over HTTP as a 409 with the time to wait', async () => {
    const permit = await reports.permits.acquire(nameOf('7'), { leaseMs: 10_000 });
    await expect(reports.count('7')).rejects.toBeInstanceOf(PermitUnavailableError);
    const response = await fetch(`${await app.getUrl()}/reports/7`, { method: 'POST' });
    expect(response.status).toBe(409);
    expect(Number(response.headers.get('Retry-After'))).toBeGreaterThanOrEqual(1);
    const problem = await response.json();
    expect(problem).toMatchObject({ code: 'PERMIT_UNAVAILABLE', outcome: 'not-applied', retryable: true });
    expect(JSON.stringify(problem)).not.toContain('report:');
    await permit.release();
    expect((await fetch(`${await app.getUrl()}/reports/7`, { method: 'POST' })).status).toBe(201);
  });

  it('[PM-8] refuses a wrong option at once', () => {
    expect(() => WithPermit({ name: '' })).toThrow(InvalidArgumentError);
    expect(() => WithPermit({} as never)).toThrow(InvalidArgumentError);
    expect(() => WithPermit({ name: 'p', limit: 0 })).toThrow(InvalidArgumentError);
    expect(() => WithPermit({ name: 'p', key: 'q' } as never)).toThrow(InvalidArgumentError);
  });
});
