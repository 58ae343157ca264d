import type { Redis } from 'ioredis';
import { ModuleClosedError, RedisUnavailableError } from '../atomic-redis.errors.js';
import { Connections } from './connections.js';
import { Credentials, type PasswordSource, type UsernameSource } from './credentials.js';
import { askStatuses, type ServerStatus } from './server-status.js';
import { nodeNameOf } from './topology.js';
import type { Observer } from '../observability/observer.js';
import { isClusterClient, type ConnectionOption, type RedisClient } from './client.js';
import { sleep, type Deadline } from '../runtime/deadline.js';
import { DurableChannels, type DurableChannel } from './durable-channel.js';
import type { DurabilityOptions } from './durability.js';
import type { KeySpace } from '../scripting/key-space.js';
import { pendingOf } from './pending-commands.js';
import { isFromReplica } from './reply-errors.js';
import { scriptBatchOf } from '../scripting/script-batch.js';
import type { Script } from '../scripting/script.js';
import { ServerClocks } from './server-clock.js';

export interface RedisConnectionOptions {
  connection: ConnectionOption;
  username?: UsernameSource | undefined;
  password?: PasswordSource | undefined;
  namespace: string;
  /** Name of the registration; CLIENT LIST shows it. */
  name: string;
  timeoutMs: number;
  observer: Observer;
}

/**
 * The library's own access to one Redis, Sentinel group or Cluster: the shared client for commands
 * and scripts, and dedicated connections for callers that need one for themselves.
 */
export class RedisConnection {
  readonly client: RedisClient;
  readonly keys: KeySpace;
  readonly isCluster: boolean;
  /** Receives round trips, waits and lost replies. */
  readonly observer: Observer;
  private readonly scripts = new Set<Script>();
  private readonly clocks = new ServerClocks();
  private readonly connections: Connections;
  private readonly durableChannels = new DurableChannels((owner, deadline) =>
    this.openDedicated(owner, 'durable', deadline),
  );

  constructor({ connection, username, password, namespace, name, observer }: RedisConnectionOptions) {
    this.observer = observer;
    this.connections = new Connections({
      connection,
      credentials: Credentials.of(username, password),
      connectionName: `nestjs-atomic-redis:${name}`,
      namespace,
      opened: (server) => {
        // Sent ahead of the scripts, which take longer.
        if (this.isCluster)
          this.clocks
            .of(server)
            .learn()
            .catch(() => undefined);
        this.loadScripts(server);
      },
    });
    const { shared, keys } = this.connections;
    const { client, isCluster } = shared;
    this.client = client;
    this.isCluster = isCluster;
    this.keys = keys;
    if (isClusterClient(client)) client.on('+node', (node: Redis) => this.keepClock(node));
    else this.keepClock(client);
  }

  get address(): string {
    return this.connections.shared.address;
  }

  /** The most arguments that one command may have at the servers. */
  get maxArguments(): number {
    return this.connections.maxArguments;
  }

  /** Loads the scripts on every connect from now on, ahead of their first use. */
  preload(scripts: readonly Script[]): void {
    for (const script of scripts) this.scripts.add(script);
  }

  /**
   * Loads a script now, and resolves with the server's objection to it. If it could not be sent, it
   * is loaded at its first call.
   */
  async load({ lua }: Script, deadline: Deadline): Promise<Error | undefined> {
    const loading = this.client.script('LOAD', lua).then(() => undefined);
    return await deadline.race(loading, () => this.unavailable()).catch((error: unknown) => error as Error);
  }

  /** Starts connecting, and keeps reconnecting until closed. */
  open(): void {
    this.connections.open();
  }

  /** True if a command written in this tick goes to a live connection that is in order. */
  get isReady(): boolean {
    return this.connections.shared.isReady;
  }

  /** True if no command waits for its reply. Of a Cluster it is not known. */
  get isIdle(): boolean {
    return !isClusterClient(this.client) && pendingOf(this.client).length === 0;
  }

  /**
   * Holds writes back. They leave in one system call for each server when the returned function is
   * called.
   */
  holdWrites(): () => void {
    const streams = this.connections.topology.streams();
    for (const stream of streams) stream.cork();
    return () => {
      for (const stream of streams) stream.uncork();
    };
  }

  /**
   * @throws RedisUnavailableError when no connection is in order by the deadline; ModuleClosedError
   * after {@link close}
   */
  async ready(deadline: Deadline): Promise<void> {
    this.open();
    await this.connections.shared.ready(deadline);
  }

  /**
   * Waits, while the application starts, until the servers are connected and checked.
   * @throws RedisUnavailableError when there is no connection by the deadline
   * @throws ConfigurationError when a server cannot be used, or a connection to it is not in order:
   * wrong credentials or database, a replica
   */
  async verifyServers(deadline: Deadline): Promise<void> {
    await this.connections.verifyServers(deadline);
  }

  /**
   * Converts the deadline to the time of the server that has the slot.
   * @throws RedisUnavailableError when that server does not tell its time before the deadline
   */
  async inServerTime(deadline: Deadline, slot: number): Promise<number> {
    for (;;) {
      const clock = this.clocks.of(await this.nodeOf(slot, deadline));
      const known = clock.at(deadline);
      if (known !== undefined) return known;
      await clock.tryToLearn(deadline, (cause) => this.unavailable(cause));
    }
  }

  /**
   * Returns the result of {@link inServerTime} if it is known without waiting.
   * @param now on the scale of `performance.now()`
   */
  knownServerTime(deadline: Deadline, slot: number, now = performance.now()): number | undefined {
    const node = this.isReady ? this.connections.topology.ownerOf(slot) : undefined;
    return node && this.clocks.of(node).at(deadline, now);
  }

  /** Reads the clock of the slot's server again, which may have been stepped. */
  async relearnClock(slot: number, deadline: Deadline): Promise<void> {
    const clock = this.clocks.of(await this.nodeOf(slot, deadline));
    await deadline.race(clock.learn(), () => this.unavailable());
  }

  /** Returns the result of {@link ownerOf} if it is known without waiting. */
  knownOwnerOf(slot: number): string | undefined {
    const node = this.isReady ? this.connections.topology.ownerOf(slot) : undefined;
    return node && nodeNameOf(node);
  }

  /**
   * Names the server that has the slot; it changes when the slot moves or its server fails over.
   * @throws RedisUnavailableError when none is known by the deadline
   */
  async ownerOf(slot: number, deadline: Deadline): Promise<string> {
    return nodeNameOf(await this.nodeOf(slot, deadline));
  }

  /**
   * Opens a dedicated connection to the server of that name, and checks it. The caller closes it;
   * it never reconnects.
   * @throws RedisUnavailableError when it is no longer a master, or cannot be reached by the
   * deadline; ModuleClosedError after {@link close}
   */
  async openDedicated(owner: string, purpose: string, deadline: Deadline): Promise<Redis> {
    return await this.connections.openDedicated(owner, purpose, deadline);
  }

  /**
   * Asks the server, or every master of a Cluster, for its state.
   * @throws RedisUnavailableError when one of them does not answer by the deadline; RedisReplyError
   * when it refuses a PING; ModuleClosedError after {@link close}
   */
  async statusOfServers(deadline: Deadline): Promise<ServerStatus[]> {
    await this.ready(deadline);
    const servers = this.connections.topology.masters();
    const role = this.connections.shared.facts?.role;
    return await askStatuses(servers, [...this.scripts], role, deadline, (cause) => this.unavailable(cause));
  }

  /**
   * Returns the channel for commands to the slot's server that must be replicated. Closed with this
   * object.
   */
  async durableChannel(
    slot: number,
    durability: DurabilityOptions,
    deadline: Deadline,
  ): Promise<DurableChannel> {
    return this.durableChannels.to(await this.ownerOf(slot, deadline), durability);
  }

  /**
   * Reads again which server has which slot, after a server was lost or said that it does not have
   * one. Gives up silently at the deadline.
   */
  async refreshTopology(deadline: Deadline): Promise<void> {
    await this.connections.topology.refresh(deadline);
  }

  /**
   * Receives an error that arrived inside a reply, where the client does not see it. READONLY means
   * that another server is the master: all connections to this one are given up, and calls wait for
   * the next.
   */
  refused(error: unknown): void {
    if (isFromReplica(error)) this.connections.shared.leave(error as Error);
  }

  /** Closes all connections that it opened. Waiting callers get a ModuleClosedError. */
  async close(): Promise<void> {
    this.durableChannels.close();
    await this.connections.close();
  }

  unavailable(cause?: Error): RedisUnavailableError {
    return this.connections.shared.unavailable(cause);
  }

  /**
   * Makes the error of a call that has waited for the connection since a point on the scale of
   * `performance.now()`.
   */
  unavailableSince(since: number): RedisUnavailableError {
    return this.connections.shared.unavailableSince(since);
  }

  closedError(): ModuleClosedError {
    return this.connections.shared.closedError();
  }

  /**
   * Returns the server that has the slot. While a failover or a migration leaves the slot without a
   * known server, the topology is read again.
   * @throws RedisUnavailableError when none is known by the deadline
   */
  private async nodeOf(slot: number, deadline: Deadline): Promise<Redis> {
    for (;;) {
      await this.ready(deadline);
      const node = this.connections.topology.ownerOf(slot);
      if (node) return node;
      const cause = new Error(`no known master has slot ${slot}`);
      await this.refreshTopology(deadline);
      await sleep(Math.min(50, deadline.remainingMs));
      if (deadline.passed) throw this.unavailable(cause);
    }
  }

  private keepClock(server: Redis): void {
    const clock = this.clocks.of(server);
    server.on('close', () => clock.forget());
    // Leaves in one write with the checks of the connection.
    server.on('ready', () => void clock.learn().catch(() => undefined));
  }

  private loadScripts(node: Redis): void {
    // All in one write. There is no socket yet where the client still queues commands.
    const stream = node.stream as Redis['stream'] | undefined;
    stream?.cork();
    // A script that could not be loaded ahead is loaded at its first call.
    for (const script of this.scripts)
      for (const { lua } of [script, scriptBatchOf(script) ?? []].flat())
        node.script('LOAD', lua).catch(() => undefined);
    stream?.uncork();
  }
}
