import { setTimeout as sleep } from 'node:timers/promises';
import { nowUs } from '../histories/history.js';
import { hashSlot } from '../../lib/scripting/hash-slot.js';
import type { LossWindow } from '../histories/linearizability.js';
import { viewOf } from '../support/cluster-nodes.js';
import type { ClusterNode, TestCluster } from '../support/cluster.js';
import { waitFor } from '../support/wait-for.js';
import { integerBetween } from './random.js';

/** An event at the nodes, with its time in milliseconds since 1970. */
export interface ClusterEvent {
  readonly what: string;
  readonly fromMs: number;
  readonly toMs: number;
  /** A master died, and with it what it had acknowledged and its replica did not have. */
  readonly loss?: LossWindow;
}

/** From an answer of a server to the note of it in a busy process. */
export const NOTED_WITHIN_MS = 1_000;

export const lossesOf = (events: readonly ClusterEvent[]): LossWindow[] =>
  events.flatMap(({ loss }) => loss ?? []);

export interface MasterKill {
  /** A key of the master. */
  readonly of: string;
  readonly cutOff: boolean;
  /** So many transactions it answers at the least, while it is cut off. */
  readonly transactions: number;
}

const SLOTS = 16_384;
/** For how long a master answers without its replica hearing of it, before it dies. */
const CUT_OFF_MS = { least: 50, most: 400 };
/** The same without a cut between the two. */
const LAG_MS = 250;

/**
 * Faults of the nodes, one after the other. Each ends with a Cluster that serves all slots, with
 * all replicas in step.
 */
export class ClusterFaults {
  readonly events: ClusterEvent[] = [];
  /** Slots that the servers moved as one step. */
  movedAtOnce = 0;
  private moves = 0;

  constructor(
    private readonly cluster: TestCluster,
    private readonly random: () => number,
  ) {}

  /**
   * A slot, with all its keys, moves to another master; by every other move both answer for it for
   * a while, or by all where the server moves none at once.
   */
  async moveSlot(key: string): Promise<void> {
    const from = await this.cluster.masterOf(key);
    const others = (await this.masters()).filter((node) => node !== from);
    const to = this.oneOf(others);
    const fromMs = Date.now();
    this.moves++;
    if (this.moves % 2 === 0 && (await this.cluster.moveAtOnce(key, to))) {
      this.movedAtOnce++;
      return this.note(`slot of ${key} moves at once from ${from.port} to ${to.port}`, fromMs);
    }
    const migration = await this.cluster.beginMigration(key, to);
    await migration.moveKeys();
    await sleep(integerBetween(this.random, 20, 200));
    await migration.finish();
    this.note(`slot of ${key} moves from ${from.port} to ${migration.to.port}`, fromMs);
  }

  /** A replica takes over in an orderly way: its master waits until it has everything. */
  async failOver(): Promise<void> {
    const [master, replica] = await this.masterAndReplica();
    const fromMs = Date.now();
    // On a busy machine a server may give up after some 5 s.
    for (let asked = 1; ; asked++) {
      await replica.client.call('CLUSTER', 'FAILOVER');
      try {
        await this.takenOver(master, replica, 8_000);
        break;
      } catch (error) {
        if (asked === 4) throw error;
      }
    }
    this.note(`${replica.port} takes over from ${master.port}`, fromMs);
    await this.cluster.settled();
  }

  /**
   * A master is killed (kill -9), its replica is promoted, and it comes back as a replica, with
   * nothing of what it had.
   */
  async kill({ of, cutOff, transactions }: MasterKill): Promise<void> {
    const [master, replica] = await this.masterAndReplica(of);
    const holds = await slotsOf(master);
    const lagMs = cutOff ? 0 : LAG_MS;
    const [fromMs, fromUs] = [Date.now() - lagMs, nowUs() - lagMs * 1_000];
    if (cutOff) {
      // It would be back at once; a master without a password refuses it now.
      await replica.client.config('SET', 'masterauth', 'refused');
      await master.client.call('CLIENT', 'KILL', 'TYPE', 'replica');
      const answered = await execsOf(master);
      await sleep(integerBetween(this.random, CUT_OFF_MS.least, CUT_OFF_MS.most));
      await waitFor(
        `${transactions} transactions on node ${master.port}`,
        async () => (await execsOf(master)) >= answered + transactions,
        30_000,
      );
    }
    const struckUs = nowUs();
    await master.server.kill();
    const loss = { fromUs, struckUs, toUs: nowUs(), holds };
    await this.takenOver(master, replica, 60_000);
    this.note(`${master.port} dies${cutOff ? ', cut off from' : ''} ${replica.port}`, fromMs, loss);
    await replica.client.config('SET', 'masterauth', '');
    await master.server.restart();
    const restartedMs = Date.now();
    await this.cluster.settled(30_000);
    this.note(`${master.port} comes back`, restartedMs);
  }

  /**
   * A master is stopped (SIGSTOP) until its replica was promoted, and then continues, not knowing.
   */
  async stall(): Promise<void> {
    const [master, replica] = await this.masterAndReplica();
    const holds = await slotsOf(master);
    const [fromMs, struckUs] = [Date.now() - LAG_MS, nowUs()];
    master.server.pause();
    await this.takenOver(master, replica, 60_000);
    master.server.resume();
    await waitFor(
      `node ${master.port} hears of it`,
      async () => (await master.client.role())[0] === 'slave',
      30_000,
    );
    const loss = { fromUs: struckUs - LAG_MS * 1_000, struckUs, toUs: nowUs(), holds };
    this.note(`${master.port} stands still, ${replica.port} takes over`, fromMs, loss);
    await this.cluster.settled(30_000);
  }

  /** @returns whether it did harm, as the next one does */
  async flushScripts(): Promise<boolean> {
    return (await this.oneOf(await this.masters()).client.script('FLUSH')) === 'OK';
  }

  async killClients(): Promise<boolean> {
    const { client } = this.oneOf(await this.masters());
    return (await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')) !== 0;
  }

  private note(what: string, fromMs: number, loss?: LossWindow): void {
    this.events.push({ what, fromMs, toMs: Date.now(), loss });
  }

  private async masterAndReplica(
    of: number | string = integerBetween(this.random, 0, SLOTS - 1),
  ): Promise<[ClusterNode, ClusterNode]> {
    const master = await this.cluster.masterOf(of);
    const replica = await waitFor('a replica', async () => (await this.cluster.replicasOf(master))[0]);
    return [master, replica];
  }

  private async takenOver(master: ClusterNode, replica: ClusterNode, withinMs: number): Promise<void> {
    await waitFor(
      `node ${replica.port} takes over from ${master.port}`,
      async () => (await replica.client.role())[0] === 'master',
      withinMs,
    );
  }

  private async masters(): Promise<ClusterNode[]> {
    const roles = await Promise.all(
      this.cluster.nodes.map(async (node) => ({ node, role: (await node.client.role())[0] })),
    );
    return roles.flatMap(({ node, role }) => (role === 'master' ? [node] : []));
  }

  private oneOf<T>(items: readonly T[]): T {
    return items[integerBetween(this.random, 0, items.length - 1)]!;
  }
}

/** Tells the keys that a node serves at this moment. */
async function slotsOf(node: ClusterNode): Promise<(key: string) => boolean> {
  const { owns } = await viewOf(node);
  return (key) => owns(hashSlot(key));
}

/** Returns the number of EXECs that a node has answered. */
async function execsOf({ client }: ClusterNode): Promise<number> {
  const stats = await client.info('commandstats');
  return Number(/^cmdstat_exec:calls=(\d+)/m.exec(stats)?.[1] ?? 0);
}
