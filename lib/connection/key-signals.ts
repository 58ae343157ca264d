import type { Redis } from 'ioredis';
import { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from './redis-connection.js';

/** @param message undefined when the connection was lost and no more will come */
export type SignalListener = (message: string | undefined) => void;

/**
 * Passes on the messages that scripts publish about a key, on the sharded channel named as the key.
 * Opens one connection to each server that has such keys, when it is first needed.
 *
 * A message may be missed between two connections, or while a slot moves. So waiters ask again from
 * time to time.
 */
export class KeySignals {
  private readonly servers = new Map<string, Promise<Redis>>();
  /** By channel. */
  private readonly listeners = new Map<string, Set<SignalListener>>();
  private closed = false;

  constructor(private readonly connection: RedisConnection) {}

  /**
   * Calls `listener` with each message about the key.
   *
   * @returns a function that ends that
   * @throws when the server cannot be subscribed to in time
   */
  async listen(key: string, listener: SignalListener, timeoutMs: number): Promise<() => void> {
    const deadline = Deadline.in(timeoutMs);
    const { keys } = this.connection;
    // As it goes over the wire: the client puts the prefix in front of channels too.
    const channel = keys.keyPrefix + key;
    const owner = await this.connection.ownerOf(keys.slotOf(key), deadline);
    const listeners = this.listeners.get(channel) ?? new Set<SignalListener>();
    this.listeners.set(channel, listeners.add(listener));
    let server: Redis | undefined;
    const stop = (): void => {
      if (!listeners.delete(listener) || listeners.size > 0) return;
      if (this.listeners.get(channel) === listeners) this.listeners.delete(channel);
      server?.sunsubscribe(key).catch(() => undefined);
    };
    try {
      server = await this.serverOf(owner, deadline);
      await deadline.race(server.ssubscribe(key), () => this.connection.unavailable());
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
    client.on('smessage', (channel: string, message: string) => this.tell(channel, message));
    client.once('close', () => {
      this.servers.delete(owner);
      for (const channel of [...this.listeners.keys()]) this.tell(channel, undefined);
    });
    return client;
  }

  private tell(channel: string, message: string | undefined): void {
    for (const listener of [...(this.listeners.get(channel) ?? [])]) listener(message);
  }
}
