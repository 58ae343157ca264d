import { Redis } from 'ioredis';
import { ShadowKeyService } from '../../lib/index.js';
import { startApp } from '../shadow-keys/app.js';
import { recordOperation } from '../histories/recorder.js';
import { worker } from '../support/worker.js';

export interface BuildOrder {
  readonly how: 'library' | 'raw';
  /** The value of every field. */
  readonly generation: string;
  readonly fields: number;
  /** Pause after this many fields; none at full speed. */
  readonly pauseMs?: number;
  /** Replace the live key at the end; else what was built is removed again. */
  readonly swaps: boolean;
}

export interface BuildReport {
  /** On the clock of `now()`. */
  readonly startedAt: number;
  readonly builtAt: number;
  readonly swappedAt: number;
  readonly rssBeforeBytes: number;
  readonly rssPeakBytes: number;
}

export const LIVE_KEY = 'catalog';
/** After so many fields a paced build pauses, and the raw one sends a command. */
const STEP = 1_000;
/** Raw commands under way, as many as the library has chunks. */
const WINDOW = 4;

/** Milliseconds on a clock that all processes of the machine share. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6;

async function* source({ fields, generation, pauseMs }: BuildOrder) {
  for (let i = 0; i < fields; i++) {
    if (pauseMs !== undefined && i % STEP === 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    yield [`field:${i}`, generation] as const;
  }
}

/** Builds by hand: pipelined HSETs of many fields each, then RENAME. */
async function raw(client: Redis, order: BuildOrder): Promise<number> {
  const key = `${LIVE_KEY}:new`;
  const flying: Promise<unknown>[] = [];
  let args: string[] = [];
  const send = async (): Promise<void> => {
    flying.push(client.call('HSET', key, ...args));
    args = [];
    if (flying.length >= WINDOW) await flying.shift();
  };
  for await (const [field, value] of source(order)) {
    args.push(field, value);
    if (args.length === STEP * 2) await send();
  }
  if (args.length > 0) await send();
  await Promise.all(flying);
  const builtAt = now();
  await (order.swaps ? client.rename(key, LIVE_KEY) : client.unlink(key));
  return builtAt;
}

/** Executes build orders one after the other. */
worker<{ url: string }>(async ({ data, next, send }) => {
  const app = await startApp(data.url);
  const shadowKeys = app.get(ShadowKeyService);
  const client = new Redis(data.url);
  let isReady = false;
  for (;;) {
    const order = await next<BuildOrder | { stop: true }>();
    if ('stop' in order) break;
    // Connected, and everything loaded, before anything is measured.
    if (!isReady) await shadowKeys.replace('warm', { a: 1 });
    isReady = true;
    const rssBeforeBytes = process.memoryUsage.rss();
    let rssPeakBytes = rssBeforeBytes;
    const sampling = setInterval(
      () => (rssPeakBytes = Math.max(rssPeakBytes, process.memoryUsage.rss())),
      10,
    );
    const startedAt = now();
    let builtAt = 0;
    if (order.how === 'raw') builtAt = await raw(client, order);
    else {
      const key = order.swaps ? LIVE_KEY : `${LIVE_KEY}:aside`;
      await recordOperation({ name: 'replace', key, args: order }, () =>
        shadowKeys.replace(key, source(order), { onProgress: () => (builtAt = now()) }),
      );
    }
    const swappedAt = now();
    clearInterval(sampling);
    if (!order.swaps) await client.unlink(`${LIVE_KEY}:aside`);
    send({ startedAt, builtAt, swappedAt, rssBeforeBytes, rssPeakBytes } satisfies BuildReport);
  }
  client.disconnect();
  await app.close();
});
