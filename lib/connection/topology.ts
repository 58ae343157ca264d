import type { Redis } from 'ioredis';
import { isClusterClient, type RedisClient } from './client.js';
import type { Deadline } from '../runtime/deadline.js';

/** Knows which master has which slot, as last read. A single server has all slots. */
export class Topology {
  constructor(private readonly client: RedisClient) {}

  masters(): Redis[] {
    return isClusterClient(this.client) ? this.client.nodes('master') : [this.client];
  }

  /** Returns the streams of the connections to the masters. */
  streams(): Redis['stream'][] {
    const streams = this.masters().map(({ stream }) => stream as Redis['stream'] | undefined);
    return streams.filter((stream) => stream !== undefined);
  }

  /** Returns undefined while a failover or a migration leaves the slot without a known master. */
  ownerOf(slot: number): Redis | undefined {
    if (!isClusterClient(this.client)) return this.client;
    const owner = this.client.slots[slot]?.[0];
    return owner === undefined ? undefined : this.named(owner);
  }

  named(name: string): Redis | undefined {
    return this.masters().find((master) => nodeNameOf(master) === name);
  }

  /** Returns a slot of that server, if servers have slots. */
  slotOf({ options }: Redis): number | undefined {
    if (!isClusterClient(this.client)) return undefined;
    const name = `${options.host}:${options.port}`;
    const slot = this.client.slots.findIndex((owners) => owners?.[0] === name);
    return slot < 0 ? undefined : slot;
  }

  /** Returns the client from which another one to the same server is made. */
  near(server: Redis): Redis {
    return isClusterClient(this.client) ? (this.named(nodeNameOf(server)) ?? server) : this.client;
  }

  /** Reads the topology again. Gives up silently at the deadline. */
  async refresh(deadline: Deadline): Promise<void> {
    const { client } = this;
    if (!isClusterClient(client)) return;
    const refreshed = new Promise<void>((resolve) => client.refreshSlotsCache(() => resolve()));
    await deadline.race(refreshed, () => new Error('not in time')).catch(() => undefined);
  }
}

/** Names a node as ioredis's table of slots does. */
export const nodeNameOf = ({ options }: Redis): string => `${options.host}:${options.port}`;
