import { setTimeout as sleep } from 'node:timers/promises';
import type { ClusterNode, TestCluster } from '../support/cluster.js';
import { waitFor } from '../support/wait-for.js';
import { integerBetween } from './random.js';

/** What happened to the nodes, and when, in milliseconds since 1970. */
export interface ClusterEvent {
  readonly what: string;
  readonly fromMs: number;
  readonly toMs: number;
  /** Whether a master died, and with it what it had acknowledged and its replica did not have. */
  readonly loses: boolean;
}

const SLOTS = 16_384;
/** For how long a master answers without its replica hearing of it, before it dies. */
const CUT_OFF_MS = { least: 50, most: 400 };
/** The same where nobody cuts the two off from each other. */
const LAG_MS = 250;

/**
 * What happens to the nodes, one thing after the other; each ends with a Cluster that serves all
 * slots, all replicas in step.
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
  async kill({ cutOff }: { cutOff: boolean }): Promise<void> {
    const [master, replica] = await this.masterAndReplica();
    const fromMs = Date.now() - (cutOff ? 0 : LAG_MS);
    if (cutOff) {
      // It would be back at once; a master without a password refuses it now.
      await replica.client.config('SET', 'masterauth', 'refused');
      await master.client.call('CLIENT', 'KILL', 'TYPE', 'replica');
      await sleep(integerBetween(this.random, CUT_OFF_MS.least, CUT_OFF_MS.most));
    }
    await master.server.kill();
    await this.takenOver(master, replica, 60_000);
    this.note(`${master.port} dies${cutOff ? ', cut off from' : ''} ${replica.port}`, fromMs, true);
    await replica.client.config('SET', 'masterauth', '');
    await master.server.restart();
    const restartedMs = Date.now();
    await this.cluster.settled(30_000);
    this.note(`${master.port} comes back`, restartedMs);
  }

  /**
   * A master stands still (SIGSTOP) until its replica was promoted, and then goes on, not knowing.
   */
  async stall(): Promise<void> {
    const [master, replica] = await this.masterAndReplica();
    const fromMs = Date.now() - LAG_MS;
    master.server.pause();
    await this.takenOver(master, replica, 60_000);
    master.server.resume();
    await waitFor(
      `node ${master.port} hears of it`,
      async () => (await master.client.role())[0] === 'slave',
      30_000,
    );
    this.note(`${master.port} stands still, ${replica.port} takes over`, fromMs, true);
    await this.cluster.settled(30_000);
  }

  async flushScripts(): Promise<void> {
    await this.oneOf(await this.masters()).client.script('FLUSH');
  }

  async killClients(): Promise<void> {
    const { client } = this.oneOf(await this.masters());
    await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  }

  private note(what: string, fromMs: number, loses = false): void {
    this.events.push({ what, fromMs, toMs: Date.now(), loses });
  }

  private async masterAndReplica(): Promise<[ClusterNode, ClusterNode]> {
    const master = await this.cluster.masterOf(integerBetween(this.random, 0, SLOTS - 1));
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
