import type { Redis } from 'ioredis';
import { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';

export type SignalListener = (lost: boolean) => void;

/**
 * Tells when the run of a record has ended, by the message that its script publishes on the sharded
 * channel named as the record. Opens one connection to each server that has such records, when it
 * is first needed.
 *
 * A message may be missed between two connections, or while a slot moves. So waiters ask again from
 * time to time.
 */
export class RecordSignals {
  private readonly servers = new Map<string, Promise<Redis>>();
  /** By channel. */
  private readonly listeners = new Map<string, Set<SignalListener>>();
  private closed = false;

  constructor(private readonly connection: RedisConnection) {}

  /**
   * Calls `listener` at each signal of the record, and with true when the connection is lost and no more will come.
   *
   * @returns what ends that
   * @throws when the server cannot be subscribed to in time
   */
  async listen(record: string, listener: SignalListener, timeoutMs: number): Promise<() => void> {
    const deadline = Deadline.in(timeoutMs);
    const { keys } = this.connection;
    // As it goes over the wire: the client puts the prefix in front of channels too.
    const channel = keys.keyPrefix + record;
    const owner = await this.connection.ownerOf(keys.slotOf(record), deadline);
    const listeners = this.listeners.get(channel) ?? new Set<SignalListener>();
    this.listeners.set(channel, listeners.add(listener));
    let server: Redis | undefined;
    const stop = (): void => {
      if (!listeners.delete(listener) || listeners.size > 0) return;
      if (this.listeners.get(channel) === listeners) this.listeners.delete(channel);
      server?.sunsubscribe(record).catch(() => undefined);
    };
    try {
      server = await this.serverOf(owner, deadline);
      await deadline.race(server.ssubscribe(record), () => this.connection.unavailable());
      return stop;
    } catch (error) {
      stop();
      throw error;
    }
  }

  close(): void {
    this.closed = true;
    for (const server of this.servers.values())
      server.then((client) => client.disconnect()).catch(() => undefined);
    this.servers.clear();
  }

  private serverOf(owner: string, deadline: Deadline): Promise<Redis> {
    let server = this.servers.get(owner);
    if (!server) {
      this.servers.set(owner, (server = this.open(owner, deadline)));
      server.catch(() => this.servers.delete(owner));
    }
    return server;
  }

  private async open(owner: string, deadline: Deadline): Promise<Redis> {
    const client = await this.connection.openDedicated(owner, 'signals', deadline);
    if (this.closed) client.disconnect();
    client.on('smessage', (channel: string) => this.tell(channel, false));
    client.once('close', () => {
      this.servers.delete(owner);
      for (const channel of [...this.listeners.keys()]) this.tell(channel, true);
    });
    return client;
  }

  private tell(channel: string, lost: boolean): void {
    for (const listener of [...(this.listeners.get(channel) ?? [])]) listener(lost);
  }
}
