import { Injectable } from '@nestjs/common';
import { CounterService } from 'nestjs-atomic-redis';
import type { Counter, Place } from '../../tool.js';
import { startApp } from '../atomic-redis.js';

@Injectable()
class Visits {
  constructor(private readonly counters: CounterService) {}

  async add(key: string): Promise<number> {
    return (await this.counters.add(key, 1, { max: 1_000 })).value;
  }
}

export async function start({ url }: Place): Promise<Counter> {
  const { provider: visits, close } = await startApp(url, Visits);
  return { add: (key) => visits.add(key), close };
}

export { notApplied } from '../atomic-redis.js';
