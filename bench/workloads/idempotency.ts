import { createHash, randomBytes } from 'node:crypto';
import { IdempotencyConfig, makeIdempotent } from '@aws-lambda-powertools/idempotency';
import { CachePersistenceLayer } from '@aws-lambda-powertools/idempotency/cache';
import { Idempotency } from '@node-idempotency/core';
import { RedisStorageAdapter } from '@node-idempotency/storage-adapter-redis';
import { Redis } from 'ioredis';
import { IdempotencyService } from 'nestjs-atomic-redis';
import { createClient } from 'redis';
import { startApp } from '../app.js';
import type { Contestant } from '../harness.js';
import { OURS, type Bench, type Comparison } from '../workload.js';
import { CLAIM, COMPLETE, LEASE_MS, payload, result, TTL_MS } from './idempotent-scripts.js';

/** Requests a run by key and payload, and returns its result. */
type Asker = (key: string, payload: Payload) => Promise<unknown>;

type Payload = typeof payload;
const FLOOR = 'floor: scripts by hand, ioredis';
const CACHED = `${OURS}, replay cache`;
/** Keys that were answered before, for replays. */
const KNOWN_KEYS = 512;

const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64url');

/**
 * Claim and completion by a script each, with what the guarantee needs: a hash of the key, a
 * fingerprint, an owner, JSON.
 */
async function floor({ url }: Bench): Promise<Asked> {
  const client = new Redis(url);
  const [claim, complete] = (await Promise.all([
    client.script('LOAD', CLAIM),
    client.script('LOAD', COMPLETE),
  ])) as [string, string];
  return {
    name: FLOOR,
    async ask(key, about) {
      const record = `floor:${sha256(`orders.create\0${key}`)}`;
      const token = randomBytes(16).toString('base64url');
      const fingerprint = sha256(JSON.stringify(about));
      const answer = (await client.evalsha(claim, 1, record, token, fingerprint, LEASE_MS)) as string;
      if (answer !== 'claimed') return JSON.parse(answer) as unknown;
      await client.evalsha(complete, 1, record, token, JSON.stringify(result), TTL_MS);
      return result;
    },
    close: async () => client.disconnect(),
  };
}

async function ours(
  { url }: Bench,
  name: string,
  replayCache?: { maxBytes: number; ttlMs: number },
): Promise<Asked> {
  const app = await startApp(url, replayCache && { idempotency: { replayCache } });
  const idempotency = app.get(IdempotencyService);
  return {
    name,
    ask: (key, about) =>
      idempotency.run(key, () => result, { operation: 'orders.create', fingerprint: about }),
    close: () => app.close(),
  };
}

async function nodeIdempotency({ url }: Bench): Promise<Asked> {
  const storage = new RedisStorageAdapter({ url });
  await storage.connect();
  const idempotency = new Idempotency(storage);
  return {
    name: '@node-idempotency',
    async ask(key, about) {
      const request = { headers: { 'idempotency-key': key }, path: '/orders', method: 'POST', body: about };
      const stored = await idempotency.onRequest(request);
      if (stored) return stored.body;
      await idempotency.onResponse(request, { body: result });
      return result;
    },
    close: () => storage.disconnect(),
  };
}

async function powertools({ url }: Bench): Promise<Asked> {
  const client = createClient({ url });
  await client.connect();
  // Its own payload validation refuses every replay in this layer, which stores no hash of the
  // payload with the result; so the payload is hashed into the key.
  const config = new IdempotencyConfig({ eventKeyJmesPath: '[key, about]' });
  const create = makeIdempotent(async (_event: { key: string; about: Payload }) => result, {
    persistenceStore: new CachePersistenceLayer({ client }),
    config,
  });
  // Without it each call warns that it has no Lambda context.
  config.registerLambdaContext({ getRemainingTimeInMillis: () => LEASE_MS });
  return {
    name: 'Powertools, node-redis',
    ask: (key, about) => create({ key, about }),
    close: async () => client.destroy(),
  };
}

interface Asked {
  readonly name: string;
  readonly ask: Asker;
  readonly close: () => Promise<void>;
}

/** Every operation is under a key of its own. */
const first = ({ name, ask, close }: Asked): Contestant => ({
  name,
  op: (n) => ask(`key ${name} ${n}`, payload),
  close,
});

/** Every operation is under a key that was answered before. */
async function replay({ name, ask, close }: Asked): Promise<Contestant> {
  const key = (n: number): string => `known ${name} ${n % KNOWN_KEYS}`;
  await Promise.all(Array.from({ length: KNOWN_KEYS }, (_, n) => ask(key(n), payload)));
  return { name, op: (n) => ask(key(n), payload), close };
}

export const idempotentFirst: Comparison = {
  floor: FLOOR,
  name: 'idempotent-first',
  title: 'Idempotent first call',
  about:
    'A call under a new key: claim, an empty method, result stored. All hash the payload and store a result of some 200 bytes as JSON.',
  callers: [1, 64],
  bars: [
    { contestant: OURS, against: FLOOR, least: 0.92, at: [1] },
    { contestant: OURS, against: FLOOR, least: 0.9, at: [64] },
    { contestant: OURS, against: '@node-idempotency', least: 1 },
    { contestant: OURS, against: '@node-idempotency', figure: 'server CPU, µs/op', most: 1.3 },
    { contestant: OURS, against: 'Powertools, node-redis', least: 1.5 },
  ],
  start: async (bench: Bench) =>
    (await Promise.all([floor(bench), ours(bench, OURS), nodeIdempotency(bench), powertools(bench)])).map(
      first,
    ),
};

export const idempotentReplay: Comparison = {
  floor: FLOOR,
  name: 'idempotent-replay',
  title: 'Idempotent replay',
  about:
    'A call under one of 512 keys that were answered before: the method does not run, and the stored result is returned.',
  callers: [1, 64],
  bars: [
    { contestant: OURS, against: FLOOR, least: 0.92, at: [1] },
    { contestant: OURS, against: FLOOR, least: 0.9, at: [64] },
    { contestant: OURS, against: '@node-idempotency', least: 1.3, at: [1] },
    { contestant: OURS, against: '@node-idempotency', figure: 'server CPU, µs/op', most: 1.2 },
    { contestant: OURS, against: 'Powertools, node-redis', least: 3 },
    { contestant: CACHED, against: '@node-idempotency', least: 5 },
  ],
  start: async (bench: Bench) =>
    await Promise.all(
      (
        await Promise.all([
          floor(bench),
          ours(bench, OURS),
          ours(bench, CACHED, { maxBytes: 10_000_000, ttlMs: 3_600_000 }),
          nodeIdempotency(bench),
          powertools(bench),
        ])
      ).map(replay),
    ),
};
