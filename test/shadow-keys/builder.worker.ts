import { ShadowKeyService } from '../../lib/index.js';
import { worker } from '../support/worker.js';
import { fieldsOf, startApp } from './app.js';

/** Builds until it is killed. */
worker<{ url: string; shadowTtlMs: number }>(async ({ data: { url, shadowTtlMs } }) => {
  const app = await startApp(url);
  await app.get(ShadowKeyService).replace(
    'k',
    async (writer) => {
      await writer.hset(fieldsOf('new', 1_000));
      await new Promise(() => undefined);
    },
    { shadowTtlMs, keepPrevious: true, version: 1 },
  );
});
