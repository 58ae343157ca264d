import { Cluster, type ClusterOptions } from 'ioredis';
import { beliefOf, isInStep, startClusterNode, viewOf, type ClusterNode } from './cluster-nodes.js';
import { waitFor } from './wait-for.js';

export type { ClusterNode } from './cluster-nodes.js';

const SLOTS = 16_384;

/** A slot on its way: both nodes answer for it, ASK leads from one to the other. */
export interface SlotMigration {
  readonly slot: number;
  readonly from: ClusterNode;
  readonly to: ClusterNode;
  /** Moves the keys that are there now; the slot stays on its way. */
  moveKeys(): Promise<void>;
  /** Moves what is left and hands the slot over. */
  finish(): Promise<void>;
  /**
   * The slot stays where it was, and what has been moved is moved back. Servers know no such step:
   * until it is over, the owner does not see the keys that are away.
   */
  cancel(): Promise<void>;
}

export interface TestCluster {
  /** Masters first, as started; roles change by failover. */
  readonly nodes: readonly ClusterNode[];
  /** A client of the whole cluster, to be disconnected by the caller. */
  connect(options?: ClusterOptions): Cluster;
  slotOf(key: string): Promise<number>;
  /** The running master that owns the slot, or the key's slot. */
  masterOf(slotOrKey: number | string): Promise<ClusterNode>;
  replicasOf(master: ClusterNode): Promise<ClusterNode[]>;
  beginMigration(slotOrKey: number | string, to: ClusterNode): Promise<SlotMigration>;
  /** A whole migration. */
  migrateSlot(slotOrKey: number | string, to: ClusterNode): Promise<void>;
  /**
   * The same as one step of the servers (Valkey 9): no client is ever asked to ASK.
   * @returns false where they know no such step
   */
  moveAtOnce(slotOrKey: number | string, to: ClusterNode): Promise<boolean>;
  /**
   * All running nodes agree on who serves what, all slots are served, and every running replica
   * holds its master's data.
   */
  settled(timeoutMs?: number): Promise<void>;
  stop(): Promise<void>;
}

/** Real nodes on loopback. A dead master is replaced within some 3 s at the default time-out. */
export async function startCluster(
  options: {
    /** @default 3 */
    masters?: number;
    /** @default 1 */
    replicasPerMaster?: number;
    /** @default TEST_REDIS_BINARY, else the one on PATH */
    binary?: string;
    /** `cluster-node-timeout` @default 1_500 */
    nodeTimeoutMs?: number;
  } = {},
): Promise<TestCluster> {
  const { masters = 3, replicasPerMaster = 1, nodeTimeoutMs = 1_500 } = options;
  const binary = options.binary ?? process.env['TEST_REDIS_BINARY'];
  const size = masters * (1 + replicasPerMaster);
  const started = await Promise.allSettled(
    Array.from({ length: size }, () => startClusterNode({ binary, nodeTimeoutMs })),
  );
  const cluster = new LoopbackCluster(
    started.flatMap((node) => (node.status === 'fulfilled' ? [node.value] : [])),
  );
  try {
    for (const node of started) if (node.status === 'rejected') throw node.reason;
    await cluster.form(masters);
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  return cluster;
}

class LoopbackCluster implements TestCluster {
  #masters = 0;

  constructor(readonly nodes: readonly ClusterNode[]) {}

  async form(masters: number): Promise<void> {
    const { nodes } = this;
    this.#masters = masters;
    // Epochs before the nodes meet: afterwards they would have to be fought out.
    await Promise.all(
      nodes.map(({ client }, index) => client.call('CLUSTER', 'SET-CONFIG-EPOCH', index + 1)),
    );
    const bound = (index: number) => Math.floor((index * SLOTS) / masters);
    for (const [index, { client }] of nodes.slice(0, masters).entries()) {
      await client.call('CLUSTER', 'ADDSLOTSRANGE', bound(index), bound(index + 1) - 1);
    }
    // Everyone meets everyone: gossip alone takes seconds.
    for (const [index, { client }] of nodes.entries()) {
      for (const other of nodes.slice(index + 1)) {
        await client.call('CLUSTER', 'MEET', other.host, other.port);
      }
    }
    for (const [index, { client }] of nodes.slice(masters).entries()) {
      const master = nodes[index % masters]!;
      await waitFor(`node ${client.options.port} becomes a replica`, async () => {
        await client.call('CLUSTER', 'REPLICATE', master.id);
        return true;
      });
    }
    await this.settled();
    await waitFor('masters know their replicas', async () => {
      const known = await Promise.all(nodes.slice(0, masters).map((master) => this.#knownReplicas(master)));
      return known.reduce((sum, count) => sum + count, 0) === nodes.length - masters;
    });
  }

  connect(options: ClusterOptions = {}): Cluster {
    const running = this.#running().map(({ host, port }) => ({ host, port }));
    return new Cluster(running, options);
  }

  async slotOf(key: string): Promise<number> {
    return (await this.#running()[0]!.client.call('CLUSTER', 'KEYSLOT', key)) as number;
  }

  async masterOf(slotOrKey: number | string): Promise<ClusterNode> {
    const slot = typeof slotOrKey === 'number' ? slotOrKey : await this.slotOf(slotOrKey);
    const views = await this.#views();
    const owners = views.filter(({ view }) => view.role === 'master' && view.owns(slot));
    // An old master that has just come back claims its slots until it hears of the newer one.
    const owner = owners.toSorted((a, b) => b.view.epoch - a.view.epoch)[0];
    if (owner === undefined) throw new Error(`no running master owns slot ${slot}`);
    return owner.node;
  }

  async replicasOf(master: ClusterNode): Promise<ClusterNode[]> {
    return (await this.#views()).filter(({ view }) => view.masterId === master.id).map(({ node }) => node);
  }

  async beginMigration(slotOrKey: number | string, to: ClusterNode): Promise<SlotMigration> {
    const slot = typeof slotOrKey === 'number' ? slotOrKey : await this.slotOf(slotOrKey);
    const from = await this.masterOf(slot);
    if (from === to) throw new Error(`slot ${slot} is on node ${to.port} already`);
    // In this order no client is sent to a node that does not expect it.
    await to.client.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', from.id);
    await from.client.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', to.id);
    return {
      slot,
      from,
      to,
      moveKeys: () => moveKeys(slot, from, to),
      finish: async () => {
        await moveKeys(slot, from, to);
        const masters = (await this.#views()).filter(({ view }) => view.role === 'master');
        // The new owner first: it must claim the slot before the old one lets go of it.
        const rest = masters.map(({ node }) => node).filter((node) => node !== to && node !== from);
        for (const { client } of [to, from, ...rest]) {
          await waitFor(`slot ${slot} to be handed over`, async () => {
            // A call may have written to the old owner since; it is refused while it holds a key.
            if (client === from.client) await moveKeys(slot, from, to);
            return await client.call('CLUSTER', 'SETSLOT', slot, 'NODE', to.id);
          });
        }
        await this.settled();
      },
      cancel: async () => {
        // While the slot is on its way out, the node takes no keys back: ASK.
        await from.client.call('CLUSTER', 'SETSLOT', slot, 'STABLE');
        await moveKeys(slot, to, from);
        await to.client.call('CLUSTER', 'SETSLOT', slot, 'STABLE');
      },
    };
  }

  async migrateSlot(slotOrKey: number | string, to: ClusterNode): Promise<void> {
    await (await this.beginMigration(slotOrKey, to)).finish();
  }

  async moveAtOnce(slotOrKey: number | string, to: ClusterNode): Promise<boolean> {
    const slot = typeof slotOrKey === 'number' ? slotOrKey : await this.slotOf(slotOrKey);
    const from = await this.masterOf(slot);
    if (from === to) throw new Error(`slot ${slot} is on node ${to.port} already`);
    const move = ['CLUSTER', 'MIGRATESLOTS', 'SLOTSRANGE', slot, slot, 'NODE', to.id] as const;
    try {
      await from.client.call(...move);
    } catch (error) {
      if (/unknown subcommand/i.test(String(error))) return false;
      throw error;
    }
    await waitFor(`slot ${slot} is on node ${to.port}`, async () => {
      if ((await this.masterOf(slot)) === to) return true;
      const [last] = (await from.client.call('CLUSTER', 'GETSLOTMIGRATIONS')) as unknown[][];
      // A busy node may have broken it off.
      if (last?.some((field) => field === 'failed' || field === 'cancelled')) await from.client.call(...move);
      return false;
    });
    await this.settled();
    return true;
  }

  async settled(timeoutMs?: number): Promise<void> {
    const everyNodeIs = async () => {
      const running = this.#running();
      const [first, ...others] = await Promise.all(running.map((node) => beliefOf(node)));
      const agreed = first!.isWhole && others.every(({ text }) => text === first!.text);
      // One that has just come back, and believes itself to be what it was, is not yet among them.
      const followers = [...first!.replicas.values()].flat().length;
      if (!agreed || followers !== running.length - this.#masters) return false;
      return (await Promise.all(running.map((node) => isInStep(node)))).every(Boolean);
    };
    await waitFor('all nodes agree and serve', everyNodeIs, timeoutMs);
  }

  async stop(): Promise<void> {
    for (const { client } of this.nodes) client.disconnect();
    await Promise.all(this.nodes.map(({ server }) => server.stop()));
  }

  #running(): ClusterNode[] {
    return this.nodes.filter(({ server }) => server.running);
  }

  async #views() {
    return Promise.all(this.#running().map(async (node) => ({ node, view: await viewOf(node) })));
  }

  async #knownReplicas(master: ClusterNode): Promise<number> {
    return ((await master.client.call('CLUSTER', 'REPLICAS', master.id)) as string[]).length;
  }
}

async function moveKeys(slot: number, from: ClusterNode, to: ClusterNode): Promise<void> {
  for (;;) {
    const keys = (await from.client.call('CLUSTER', 'GETKEYSINSLOT', slot, 100)) as string[];
    if (keys.length === 0) return;
    // A busy node may believe for a moment that the Cluster is down.
    await waitFor(`node ${to.port} takes keys of slot ${slot}`, async () => {
      await from.client.call('MIGRATE', to.host, to.port, '', 0, 5_000, 'REPLACE', 'KEYS', ...keys);
      return true;
    });
  }
}
