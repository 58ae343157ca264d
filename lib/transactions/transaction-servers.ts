import { SLOT_COUNT } from '../scripting/hash-slot.js';
import { Deadline } from '../runtime/deadline.js';
import { randomId } from '../runtime/random-id.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import { probeTransactions } from './transaction-probe.js';
import { TransactionServer, type Fitness } from './transaction-server.js';

/** The servers that transactions run at, or may. */
export class TransactionServers {
  private readonly servers = new Map<string, TransactionServer>();

  constructor(
    private readonly connection: RedisConnection,
    private readonly openTimeoutMs: number,
  ) {}

  /** @param slot one that the server has */
  named(owner: string, slot: number): TransactionServer {
    let server = this.servers.get(owner);
    if (!server) {
      server = new TransactionServer((has) => this.look(owner, has), slot);
      this.servers.set(owner, server);
    }
    server.slot = slot;
    return server;
  }

  /**
   * Looks at each server that is known now. Resolves with why one of them cannot run transactions;
   * what could not be found out is found out later.
   */
  async problem(): Promise<Error | undefined> {
    const looked = [...this.ownersNow()].map(([owner, slot]) => this.named(owner, slot).fitness());
    const unfit = (await Promise.all(looked)).find(({ kind }) => kind === 'unfit');
    return unfit?.kind === 'unfit' ? unfit.error : undefined;
  }

  /** Each with a slot that it has. */
  private ownersNow(): Map<string, number> {
    const owners = new Map<string, number>();
    const slots = this.connection.isCluster ? SLOT_COUNT : 1;
    for (let slot = 0; slot < slots; slot++) {
      const owner = this.connection.knownOwnerOf(slot);
      if (owner !== undefined && !owners.has(owner)) owners.set(owner, slot);
    }
    return owners;
  }

  private async look(owner: string, slot: number): Promise<Fitness> {
    const { connection } = this;
    const deadline = Deadline.in(this.openTimeoutMs);
    const client = await connection.openDedicated(owner, 'transaction-probe', deadline);
    try {
      const key = connection.keys.pinned('transaction-probe', slot, randomId('hex'));
      const probing = probeTransactions(client, owner, key);
      return await deadline.race(probing, () => connection.unavailable());
    } finally {
      client.disconnect();
    }
  }
}
