import type { Redis } from 'ioredis';
import { ConfigurationError, ModuleClosedError, RedisUnavailableError } from '../atomic-redis.errors.js';
import type { Observer } from '../observability/observer.js';
import {
  addressOf,
  isClusterClient,
  openDedicatedClient,
  openSharedClient,
  type ConnectionOption,
  type RedisClient,
} from './client.js';
import { Deadline, sleep } from './deadline.js';
import { DurableChannels, type DurableChannel } from './durable-channel.js';
import type { DurabilityOptions } from './durability.js';
import { KeySpace } from './key-space.js';
import { batchOf } from './script-batch.js';
import type { Script } from './script.js';
import { ServerChecks } from './server-check.js';
import { ServerClocks } from './server-clock.js';
import { askStatuses, type ServerStatus } from './server-status.js';
import { nameOf, Topology } from './topology.js';

/** A connection with commands in flight that stays silent this long is taken for dead and replaced; not longer than one operation may take. */
const SILENCE_MS = 2_000;

/** How long closing waits for a connection's last answers. */
const QUIT_TIMEOUT_MS = 500;

export interface RedisConnectionOptions {
  connection: ConnectionOption;
  namespace: string;
  /** Of the registration; goes into CLIENT LIST. */
  name: string;
  timeoutMs: number;
  observer: Observer;
}

/**
 * The library's own way to one Redis, Sentinel group or Cluster: the shared client for commands and scripts, and
 * dedicated connections for who must be alone on one.
 */
export class RedisConnection {
  readonly client: RedisClient;
  readonly keys: KeySpace;
  readonly isCluster: boolean;
  /** Is told of round trips, waits and lost replies. */
  readonly observer: Observer;
  private readonly name: string;
  private readonly scripts = new Set<Script>();
  private readonly clocks = new ServerClocks();
  private readonly durableChannels = new DurableChannels((owner, deadline) =>
    this.openDedicated(owner, 'durable', deadline),
  );
  private readonly waiting = new Set<() => void>();
  private readonly topology: Topology;
  private readonly serverChecks: ServerChecks;
  private lastError: Error | undefined;
  private state: 'idle' | 'open' | 'closed' = 'idle';

  constructor(options: RedisConnectionOptions) {
    this.name = `nestjs-atomic-redis:${options.name}`;
    this.observer = options.observer;
    this.client = openSharedClient(options.connection, {
      connectionName: this.name,
      socketTimeoutMs: Math.min(options.timeoutMs, SILENCE_MS),
    });
    this.isCluster = isClusterClient(this.client);
    this.keys = new KeySpace(options.namespace, this.client.options.keyPrefix);
    this.topology = new Topology(this.client);
    this.serverChecks = new ServerChecks(this.isCluster, this.keys);
    this.client.on('error', (error: Error) => (this.lastError = error));
    this.client.on('ready', () => {
      for (const wake of this.waiting) wake();
    });
    if (isClusterClient(this.client)) this.client.on('+node', (node: Redis) => this.prepareOnConnect(node));
    else this.prepareOnConnect(this.client);
  }

  get address(): string {
    return addressOf(this.client);
  }

  /** Loads the scripts on every connect from now on, ahead of their first use. */
  preload(scripts: readonly Script[]): void {
    for (const script of scripts) this.scripts.add(script);
  }

  /** Loads a script now, and resolves with what the server has against it. One that could not be loaded is loaded at its first call. */
  async load({ lua }: Script, deadline: Deadline): Promise<Error | undefined> {
    const loading = this.client.script('LOAD', lua).then(() => undefined);
    return await deadline.race(loading, () => this.unavailable()).catch((error: unknown) => error as Error);
  }

  /** Starts connecting, and keeps reconnecting until closed. */
  open(): void {
    if (this.state !== 'idle') return;
    this.state = 'open';
    // What goes wrong arrives as 'error'; the client goes on trying.
    this.client.connect().catch(() => undefined);
  }

  /** Whether a command written in this tick goes to a live connection. */
  get isReady(): boolean {
    // A closed client goes on being 'ready' until its socket has ended.
    return this.state === 'open' && this.client.status === 'ready';
  }

  /** Holds back what is written from now on, to leave in one system call for each server when the function that is returned is called. */
  holdWrites(): () => void {
    const streams = this.topology.streams();
    for (const stream of streams) stream.cork();
    return () => {
      for (const stream of streams) stream.uncork();
    };
  }

  /** @throws RedisUnavailableError when there is no connection by the deadline; ModuleClosedError after {@link close} */
  async ready(deadline: Deadline): Promise<void> {
    this.open();
    while (!this.isReady) {
      if (this.state === 'closed') throw this.closedError();
      if (deadline.passed) throw this.unavailable();
      await this.untilReady(deadline);
    }
  }

  /**
   * Waits for what there is to say of the servers, up to the deadline.
   * @throws ConfigurationError when one of them cannot be used
   */
  async verifyServers(deadline: Deadline): Promise<void> {
    const checked = this.serverChecks.problemOf(this.topology.masters());
    const problem = await deadline.race(checked, () => this.unavailable()).catch(() => undefined);
    if (problem) throw new ConfigurationError(problem);
  }

  /**
   * The deadline in the time of the server that has the slot.
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

  /** What {@link inServerTime} resolves with, where that is known without waiting. */
  knownServerTime(deadline: Deadline, slot: number): number | undefined {
    const node = this.isReady ? this.topology.ownerOf(slot) : undefined;
    return node && this.clocks.of(node).at(deadline);
  }

  /** Reads the clock of the slot's server again, which may have been stepped. */
  async relearnClock(slot: number, deadline: Deadline): Promise<void> {
    const clock = this.clocks.of(await this.nodeOf(slot, deadline));
    await deadline.race(clock.learn(), () => this.unavailable());
  }

  /** {@link ownerOf}, where it is known now. */
  knownOwnerOf(slot: number): string | undefined {
    const node = this.isReady ? this.topology.ownerOf(slot) : undefined;
    return node && nameOf(node);
  }

  /**
   * Names the server that has the slot; it changes when the slot moves or its server fails over.
   * @throws RedisUnavailableError when none is known by the deadline
   */
  async ownerOf(slot: number, deadline: Deadline): Promise<string> {
    return nameOf(await this.nodeOf(slot, deadline));
  }

  /**
   * A connection of its own to the server of that name. The caller closes it; it never reconnects.
   * @throws RedisUnavailableError when it is not a master any more, or cannot be reached by the deadline; ModuleClosedError after {@link close}
   */
  async openDedicated(owner: string, purpose: string, deadline: Deadline): Promise<Redis> {
    const node = this.topology.named(owner);
    if (!node) throw this.unavailable(new Error(`${owner} is no known master`));
    const client = openDedicatedClient(node, `${this.name}:${purpose}`, this.keys.keyPrefix, SILENCE_MS);
    let cause: Error | undefined;
    client.on('error', (error: Error) => (cause = error));
    try {
      await deadline.race(client.connect(), () => this.unavailable(cause));
    } catch (error) {
      client.disconnect();
      throw error instanceof RedisUnavailableError ? error : this.unavailable(cause ?? (error as Error));
    }
    if (this.state !== 'closed') return client;
    client.disconnect();
    throw this.closedError();
  }

  /**
   * Asks the server, or every master of a Cluster, for its state.
   * @throws RedisUnavailableError when one of them does not answer by the deadline; RedisReplyError when it refuses a PING; ModuleClosedError after {@link close}
   */
  async statusOfServers(deadline: Deadline): Promise<ServerStatus[]> {
    await this.ready(deadline);
    const servers = this.topology.masters();
    return await askStatuses(servers, [...this.scripts], deadline, (cause) => this.unavailable(cause));
  }

  /** For commands to the slot's server that are to be replicated. Closed with this. */
  async durableChannel(
    slot: number,
    durability: DurabilityOptions,
    deadline: Deadline,
  ): Promise<DurableChannel> {
    return this.durableChannels.to(await this.ownerOf(slot, deadline), durability);
  }

  /** Reads again which server has which slot, after one of them was lost or said it has not. Gives up silently at the deadline. */
  async refreshTopology(deadline: Deadline): Promise<void> {
    await this.topology.refresh(deadline);
  }

  /** Closes what it opened. Waiting callers get a ModuleClosedError. */
  async close(): Promise<void> {
    const wasOpen = this.state === 'open';
    this.state = 'closed';
    for (const wake of this.waiting) wake();
    this.durableChannels.close();
    if (!wasOpen) return;
    // What was written before is still answered, unless nothing is any more.
    if (this.client.status === 'ready') {
      const quit = this.client.quit().then(() => undefined);
      await Deadline.in(QUIT_TIMEOUT_MS)
        .race(quit, () => this.unavailable())
        .catch(() => undefined);
    }
    this.client.disconnect();
  }

  unavailable(cause: Error | undefined = this.lastError): RedisUnavailableError {
    return new RedisUnavailableError(
      `Redis at ${this.address} could not be reached in time${cause ? `: ${cause.message}` : ''}`,
      {
        cause,
      },
    );
  }

  closedError(): ModuleClosedError {
    return new ModuleClosedError('AtomicRedisModule was closed');
  }

  /**
   * The server that has the slot. While a failover or a migration leaves it without a known one, the topology is read again.
   * @throws RedisUnavailableError when none is known by the deadline
   */
  private async nodeOf(slot: number, deadline: Deadline): Promise<Redis> {
    for (;;) {
      await this.ready(deadline);
      const node = this.topology.ownerOf(slot);
      if (node) return node;
      const cause = new Error(`no known master has slot ${slot}`);
      await this.refreshTopology(deadline);
      await sleep(Math.min(50, deadline.remainingMs));
      if (deadline.passed) throw this.unavailable(cause);
    }
  }

  private prepareOnConnect(node: Redis): void {
    const clock = this.clocks.of(node);
    node.on('close', () => clock.forget());
    node.on('ready', () => {
      void this.serverChecks.of(node);
      clock.learn().catch(() => undefined);
      // A script that could not be loaded ahead is loaded at its first call.
      for (const script of this.scripts)
        for (const { lua } of [script, batchOf(script) ?? []].flat())
          node.script('LOAD', lua).catch(() => undefined);
    });
  }

  private untilReady(deadline: Deadline): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, deadline.remainingMs);
      this.waiting.add(done);
    });
  }
}
