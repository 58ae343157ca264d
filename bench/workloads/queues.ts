import { randomBytes } from 'node:crypto';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { ReliableQueueService } from 'nestjs-atomic-redis';
import { startApp } from '../app.js';
import type { Contestant } from '../harness.js';
import { OURS, type Bench, type Comparison } from '../workload.js';

const FLOOR = 'floor: scripts by hand, ioredis';

const job = { to: 'ada@example.org', subject: 'Your order', order: 4711 };
const LEASE_MS = 30_000;

const PUSH = `
if redis.call('SET', KEYS[3], '1', 'NX', 'PX', '65000') then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  redis.call('LPUSH', KEYS[1], ARGV[1])
end
return 'done'`;

const TAKE = `
local id = redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
if not id then return false end
local deliveries = redis.call('HINCRBY', KEYS[5], id, 1)
local time = redis.call('TIME')
redis.call('ZADD', KEYS[4], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1], id)
return { id, deliveries, redis.call('HGET', KEYS[3], id) }`;

const ACK = `
if redis.call('HGET', KEYS[4], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('LREM', KEYS[1], 1, ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
return redis.call('ZREM', KEYS[3], ARGV[1])`;

/**
 * A script for each step, with the same lease and fence; a push or an acknowledgement that is sent
 * again counts once.
 */
async function floor({ url }: Bench): Promise<Contestant> {
  const client = new Redis(url);
  const [push, take, ack] = (await Promise.all(
    [PUSH, TAKE, ACK].map((script) => client.script('LOAD', script)),
  )) as [string, string, string];
  const key = (part: string): string => `{floor}:${part}`;
  const [waiting, processing, jobs, leases, deliveries] = [
    'waiting',
    'processing',
    'jobs',
    'leases',
    'deliveries',
  ].map(key) as [string, string, string, string, string];
  return {
    name: FLOOR,
    async op() {
      const id = randomBytes(16).toString('base64url');
      await client.evalsha(push, 3, waiting, jobs, key(`marker:${id}`), id, JSON.stringify(job));
      const taken = (await client.evalsha(
        take,
        5,
        waiting,
        processing,
        jobs,
        leases,
        deliveries,
        LEASE_MS,
      )) as [string, number, string];
      JSON.parse(taken[2]);
      await client.evalsha(ack, 4, processing, jobs, leases, deliveries, taken[0], taken[1]);
    },
    close: async () => client.disconnect(),
  };
}

async function ours({ url }: Bench): Promise<Contestant> {
  const app = await startApp(url);
  const queue = app.get(ReliableQueueService).get<typeof job>('bench');
  return {
    name: OURS,
    async op() {
      await queue.push(job);
      const taken = await queue.take({ leaseMs: LEASE_MS });
      await taken?.ack();
    },
    close: () => app.close(),
  };
}

async function bullmq({ port }: Bench): Promise<Contestant> {
  const connection = { port, host: '127.0.0.1', maxRetriesPerRequest: null };
  const queue = new Queue<typeof job>('bench', {
    connection,
    defaultJobOptions: { removeOnComplete: true },
  });
  const worker = new Worker<typeof job>('bench', null, { connection, lockDuration: LEASE_MS });
  await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()]);
  return {
    name: 'BullMQ',
    async op(n) {
      await queue.add('mail', job);
      const token = String(n);
      const taken = await worker.getNextJob(token, { block: false });
      await taken?.moveToCompleted(undefined, token, false);
    },
    async close() {
      await worker.close();
      await queue.close();
    },
  };
}

export const queues: Comparison = {
  floor: FLOOR,
  name: 'queue',
  title: 'Queue: push, take, acknowledge',
  about: 'One job is pushed, and one is taken and acknowledged, step by step, by each caller.',
  callers: [1, 64],
  bars: [
    { contestant: OURS, against: FLOOR, least: 0.85, at: [1] },
    { contestant: OURS, against: FLOOR, least: 1.5, at: [64] },
    { contestant: OURS, against: 'BullMQ', least: 1.5, at: [1] },
    { contestant: OURS, against: 'BullMQ', least: 4, at: [64] },
    { contestant: OURS, against: 'BullMQ', figure: 'server CPU, µs/op', most: 0.75, at: [1] },
    { contestant: OURS, against: 'BullMQ', figure: 'server CPU, µs/op', most: 0.25, at: [64] },
  ],
  start: (bench: Bench) => Promise.all([floor(bench), ours(bench), bullmq(bench)]),
};
