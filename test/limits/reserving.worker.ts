import { LimitService, type Limit } from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { worker } from '../support/worker.js';

export interface Data {
  readonly url: string;
  readonly limit: Limit;
  readonly ttlMs: number;
}

/** Reserves and settles for nothing, until it is killed. */
worker<Data>(async ({ data: { url, limit, ttlMs }, send }) => {
  const app = await startApp({ connection: url });
  const limits = app.get(LimitService);
  send('ready');
  const caller = async (): Promise<never> => {
    for (;;) {
      const { id } = await limits.reserve(limit, { ttlMs });
      if (id !== undefined) await limits.settle(id, 0);
    }
  };
  await Promise.all(Array.from({ length: 16 }, caller));
});
