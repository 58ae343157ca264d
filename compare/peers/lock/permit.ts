import { Injectable } from '@nestjs/common';
import { InjectTransaction, OptimisticRetry, WithPermit, type Transaction } from 'nestjs-atomic-redis';
import { LEASE_MS, type Place, type Update } from '../../tool.js';
import { startApp } from '../atomic-redis.js';

@Injectable()
class Documents {
  constructor(@InjectTransaction() private readonly tx: Transaction) {}

  @WithPermit({ name: (key: string) => `lock:${key}`, leaseMs: LEASE_MS, waitMs: 10_000 })
  @OptimisticRetry({ watch: (key: string) => key, permit: 'current' })
  async update(key: string, change: (value: string | null) => Promise<string>): Promise<void> {
    this.tx.write.set(key, await change(await this.tx.read.get(key)));
  }
}

export async function start({ url }: Place): Promise<Update> {
  const { provider: documents, close } = await startApp(url, Documents);
  return { update: (key, change) => documents.update(key, change), close };
}

export { notApplied } from '../atomic-redis.js';
