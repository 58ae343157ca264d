import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from 'ioredis';
import { TransferService, type DurabilityOptions } from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { nowUs } from '../histories/history.js';
import { noteOperation, startRecording, type Recording } from '../histories/recorder.js';
import { startCluster, type TestCluster } from '../support/cluster.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';
import {
  counters,
  effectLists,
  OPENING_BALANCE,
  pairs,
  wallets,
  type ClusterReport,
} from './cluster-bank.js';
import { ClusterFaults, lossesOf, type ClusterEvent } from './cluster-faults.js';
import { judgeCluster, type ClusterState, type ClusterOutcome } from './cluster-verdict.js';
import type { ClusterJob } from './cluster.worker.js';
import { integerBetween, seededRandom, shuffled } from './random.js';
import { judgeHistory } from '../histories/judge.js';
import type { SoakHistory } from './reproduce.js';

export interface ClusterSoakOptions {
  /** Slots that are moved. */
  moves: number;
  /** Replicas that are promoted in an orderly way. */
  failovers: number;
  /** Masters that are killed; every other one is cut off from its replica first. */
  kills: number;
  /** Masters that stand still until they are replaced. */
  stalls: number;
  /** Durability of every call. */
  durability?: DurabilityOptions;
  seed: number;
}

export interface ClusterSoakReport extends ClusterOutcome {
  /** Slots that the servers moved as one step. */
  readonly movedAtOnce: number;
  readonly elapsedMs: number;
  readonly history: SoakHistory;
}

const WORKERS = 3;
const CALLERS = { runs: 3, others: 6 };
/** Milliseconds from one fault to the next. */
const PACE = { least: 100, most: 600 };

/**
 * Calls of several processes on a Cluster of three masters with a replica each, while its nodes
 * change.
 */
export async function soakCluster(options: ClusterSoakOptions): Promise<ClusterSoakReport> {
  // Long enough that a busy machine makes no node look dead.
  const recording = startRecording();
  const cluster = await startCluster({ nodeTimeoutMs: 5_000 });
  const client = cluster.connect();
  let workers: WorkerProcess<ClusterReport[]>[] = [];
  try {
    await open(client);
    workers = startWorkers(cluster, options);
    await Promise.all(workers.map((worker) => worker.next()));
    const startedAt = performance.now();
    const results = Promise.all(workers.map(({ result }) => result));
    results.catch(() => {});
    const random = seededRandom(options.seed);
    const faults = new ClusterFaults(cluster, random);
    // A worker that ends early has failed.
    await Promise.race([injectAll(faults, options, random), results]);
    for (const worker of workers) worker.send({ stop: true });
    const reports = (await results).flat();
    const elapsedMs = performance.now() - startedAt;
    const recovery = await recover(cluster, options);
    const startUs = nowUs();
    const state = await read(client);
    const verdict = judgeCluster(reports, state, faults.events);
    noteState(state, startUs);
    const history = judged(recording, faults.events, options);
    const { movedAtOnce } = faults;
    return { history, verdict, recovery, leftovers: await countLeftovers(cluster), movedAtOnce, elapsedMs };
  } finally {
    await Promise.all(workers.map((worker) => worker.kill()));
    client.disconnect();
    await cluster.stop();
  }
}

function noteState({ pairs: states, counters: values, effects }: ClusterState, startUs: number): void {
  const note = (key: string, list: string[]) => {
    const steps = [['read', key, list]];
    noteOperation({ name: 'last read', model: 'list-append', args: steps }, steps, startUs);
  };
  for (const [at, { audit }] of pairs.entries())
    note(
      audit,
      states[at]!.audit.map((line) => (JSON.parse(line) as { id: string }).id),
    );
  for (const [at, list] of effectLists.entries())
    note(
      list,
      effects[at]!.map((line) => (JSON.parse(line) as { answer: string }).answer),
    );
  for (const [at, key] of counters.entries())
    noteOperation({ name: 'read', model: 'counter', key, args: [] }, values[at]!, startUs);
}

/**
 * A stopped master that does not know of its replacement may acknowledge a write that is in no
 * earlier state of the new master. Counters have no model for that.
 */
function judged(
  recording: Recording,
  events: readonly ClusterEvent[],
  { stalls, durability }: ClusterSoakOptions,
): SoakHistory {
  const mayLose = durability === undefined;
  const history = recording.read();
  const modelled = mayLose && stalls > 0 ? history.filter(({ model }) => model !== 'counter') : history;
  return { ...judgeHistory(modelled, mayLose ? lossesOf(events) : []), folder: recording.folder };
}

async function injectAll(
  faults: ClusterFaults,
  { moves, failovers, kills, stalls, durability }: ClusterSoakOptions,
  random: () => number,
): Promise<void> {
  const oneOf = (keys: readonly string[]): string => keys[integerBetween(random, 0, keys.length - 1)]!;
  const lists = [...pairs.map(({ audit }) => audit), ...effectLists];
  const busy = [...lists, ...wallets, ...counters];
  // With durability calls wait for the replica, and only a few are answered.
  const transactions = durability ? 0 : 20;
  const times = (count: number, fault: (n: number) => Promise<unknown>) =>
    Array.from({ length: count }, (_, n) => () => fault(n));
  const all = shuffled(random, [
    ...times(moves, () => faults.moveSlot(oneOf(busy))),
    ...times(failovers, () => faults.failOver()),
    ...times(kills, (n) => faults.kill({ of: oneOf(lists), cutOff: n % 2 === 0, transactions })),
    ...times(stalls, () => faults.stall()),
    ...times(Math.ceil(moves / 4), () => faults.flushScripts()),
    ...times(Math.ceil(moves / 4), () => faults.killClients()),
  ]);
  for (const inject of all) {
    await sleep(integerBetween(random, PACE.least, PACE.most));
    await inject();
  }
  await sleep(PACE.most);
}

function startWorkers(
  cluster: TestCluster,
  { moves, failovers, kills, stalls, durability, seed }: ClusterSoakOptions,
) {
  const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
  const data: ClusterJob = { nodes, callers: CALLERS, durability, seed };
  const timeoutMs = 120_000 + (moves + failovers + kills + stalls) * 20_000;
  const script = join(__dirname, 'cluster.worker.ts');
  return Array.from({ length: WORKERS }, (_, index) =>
    startWorker<ClusterReport[]>({ script, data, index, timeoutMs }),
  );
}

async function open(client: Cluster): Promise<void> {
  const balances = [...pairs.flatMap(({ accounts }) => accounts), ...wallets];
  await Promise.all(balances.map((key) => client.set(key, OPENING_BALANCE)));
}

async function recover(
  cluster: TestCluster,
  { durability }: ClusterSoakOptions,
): Promise<ClusterOutcome['recovery']> {
  const app = await startApp({
    connection: { nodes: cluster.nodes.map(({ host, port }) => ({ host, port })) },
    timeoutMs: 30_000,
  });
  try {
    const { credited, refunded, failed } = await app
      .get(TransferService)
      .recover({ minAgeMs: 0, durability });
    return { credited, refunded, failed };
  } finally {
    await app.close();
  }
}

async function read(client: Cluster): Promise<ClusterState> {
  const number = async (key: string) => Number(await client.get(key));
  const counter = async (key: string) => ((await client.exists(key)) === 0 ? null : number(key));
  const list = (key: string) => client.lrange(key, 0, -1);
  return {
    pairs: await Promise.all(
      pairs.map(async ({ accounts: [first, second], audit }) => ({
        balances: [await number(first), await number(second)] as const,
        audit: await list(audit),
      })),
    ),
    wallets: await Promise.all(wallets.map(number)),
    counters: await Promise.all(counters.map(counter)),
    effects: await Promise.all(effectLists.map(list)),
  };
}

async function countLeftovers(cluster: TestCluster): Promise<number> {
  let leftovers = 0;
  for (const { client } of cluster.nodes) {
    if ((await client.role())[0] !== 'master') continue;
    for await (const keys of client.scanStream({ match: 'atomic:*', count: 1_000 }) as AsyncIterable<
      string[]
    >) {
      const ttls = await Promise.all(keys.map((key) => client.pttl(key)));
      leftovers += ttls.filter((ttl) => ttl === -1).length;
    }
  }
  return leftovers;
}
