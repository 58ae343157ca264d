import type { Redis } from 'ioredis';
import { ConfigurationError, ModuleClosedError, RedisUnavailableError } from '../atomic-redis.errors.js';
import {
  addressOf,
  isClusterClient,
  openDedicatedClient,
  openSharedClient,
  type ConnectionOption,
  type RedisClient,
} from './client.js';
import { Deadline, sleep } from './deadline.js';
import { DurableChannel } from './durable-channel.js';
import type { DurabilityOptions } from './durability.js';
import { KeySpace } from './key-space.js';
import { isConnectionLoss, isTransientRefusal, toReplyError } from './reply-errors.js';
import type { Script } from './script.js';
import { checkServer } from './server-check.js';
import { ServerClock } from './server-clock.js';
import { askStatus, type ServerStatus } from './server-status.js';

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
}

/**
 * The library's own way to one Redis, Sentinel group or Cluster: the shared client for commands and scripts, and
 * dedicated connections for who must be alone on one.
 */
export class RedisConnection {
  readonly client: RedisClient;
  readonly keys: KeySpace;
  readonly isCluster: boolean;
  private readonly name: string;
  private readonly scripts = new Set<Script>();
  private readonly clocks = new WeakMap<Redis, ServerClock>();
  private readonly durableChannels = new Map<string, DurableChannel>();
  private readonly waiting = new Set<() => void>();
  private readonly serverChecks = new WeakMap<Redis, Promise<string | undefined>>();
  private lastError: Error | undefined;
  private state: 'idle' | 'open' | 'closed' = 'idle';

  constructor(options: RedisConnectionOptions) {
    this.name = `nestjs-atomic-redis:${options.name}`;
    this.client = openSharedClient(options.connection, {
      connectionName: this.name,
      socketTimeoutMs: Math.min(options.timeoutMs, SILENCE_MS),
    });
    this.isCluster = isClusterClient(this.client);
    this.keys = new KeySpace(options.namespace, this.client.options.keyPrefix);
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
    const checks = Promise.all(this.masters().map((node) => this.checkServer(node)));
    const found = await deadline.race(checks, () => this.unavailable()).catch(() => []);
    const problem = found.find((one) => one !== undefined);
    if (problem) throw new ConfigurationError(problem);
  }

  /**
   * The deadline in the time of the server that has the slot.
   * @throws RedisUnavailableError when that server does not tell its time before the deadline
   */
  async inServerTime(deadline: Deadline, slot: number): Promise<number> {
    for (;;) {
      const clock = this.clockOf(await this.nodeOf(slot, deadline));
      const known = clock.at(deadline);
      if (known !== undefined) return known;
      try {
        await deadline.race(clock.learn(), () => this.unavailable());
      } catch (error) {
        // Not by the deadline: a timer may end a little before it.
        if (error instanceof RedisUnavailableError) throw error;
        if (deadline.passed || !(error instanceof Error)) throw this.unavailable(error as Error);
        if (!isConnectionLoss(error) && !isTransientRefusal(error))
          throw toReplyError(error, 'TIME, which time limits need');
        await sleep(Math.min(20, deadline.remainingMs));
      }
    }
  }

  /** Reads the clock of the slot's server again, which may have been stepped. */
  async relearnClock(slot: number, deadline: Deadline): Promise<void> {
    const clock = this.clockOf(await this.nodeOf(slot, deadline));
    await deadline.race(clock.learn(), () => this.unavailable());
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
    const node = this.masters().find((master) => nameOf(master) === owner);
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
    return await Promise.all(
      this.masters().map(async (server) => {
        try {
          const silent = (): Error => this.unavailable(new Error(`${addressOf(server)} did not answer`));
          return await deadline.race(askStatus(server, [...this.scripts]), silent);
        } catch (error) {
          if (error instanceof RedisUnavailableError) throw error;
          if (isConnectionLoss(error)) throw this.unavailable(error as Error);
          throw toReplyError(error as Error, 'a PING');
        }
      }),
    );
  }

  /** For commands to the slot's server that are to be replicated. Closed with this. */
  async durableChannel(
    slot: number,
    durability: DurabilityOptions,
    deadline: Deadline,
  ): Promise<DurableChannel> {
    const owner = await this.ownerOf(slot, deadline);
    const id = [owner, durability.replicas, durability.fsync ?? false].join();
    let channel = this.durableChannels.get(id);
    if (!channel) {
      channel = new DurableChannel((until) => this.openDedicated(owner, 'durable', until), durability);
      this.durableChannels.set(id, channel);
    }
    return channel;
  }

  /** Reads again which server has which slot, after one of them was lost or said it has not. Gives up silently at the deadline. */
  async refreshTopology(deadline: Deadline): Promise<void> {
    const { client } = this;
    if (!isClusterClient(client)) return;
    const refreshed = new Promise<void>((resolve) => client.refreshSlotsCache(() => resolve()));
    await deadline.race(refreshed, () => new Error('not in time')).catch(() => undefined);
  }

  /** Closes what it opened. Waiting callers get a ModuleClosedError. */
  async close(): Promise<void> {
    const wasOpen = this.state === 'open';
    this.state = 'closed';
    for (const wake of this.waiting) wake();
    for (const channel of this.durableChannels.values()) channel.close();
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
      const { client } = this;
      if (!isClusterClient(client)) return client;
      const owner = client.slots[slot]?.[0];
      const node = this.masters().find((master) => nameOf(master) === owner);
      if (node) return node;
      const cause = new Error(`no known master has slot ${slot}`);
      await this.refreshTopology(deadline);
      await sleep(Math.min(50, deadline.remainingMs));
      if (deadline.passed) throw this.unavailable(cause);
    }
  }

  private masters(): Redis[] {
    return isClusterClient(this.client) ? this.client.nodes('master') : [this.client];
  }

  private clockOf(node: Redis): ServerClock {
    let clock = this.clocks.get(node);
    if (!clock) this.clocks.set(node, (clock = new ServerClock(node)));
    return clock;
  }

  private prepareOnConnect(node: Redis): void {
    const clock = this.clockOf(node);
    node.on('close', () => clock.forget());
    node.once('ready', () => void this.checkServer(node));
    node.on('ready', () => {
      clock.learn().catch(() => undefined);
      // A script that could not be loaded ahead is loaded at its first call.
      for (const { lua } of this.scripts) node.script('LOAD', lua).catch(() => undefined);
    });
  }

  /** Once for each server. */
  private checkServer(node: Redis): Promise<string | undefined> {
    let check = this.serverChecks.get(node);
    if (!check) {
      const { isCluster, keys, scripts } = this;
      const namespace = keys.keyPrefix + keys.namespace;
      const expected = { address: addressOf(node), isCluster, namespace, scripts };
      this.serverChecks.set(node, (check = checkServer(node, expected).catch(() => undefined)));
    }
    return check;
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

/** As ioredis names a node in its table of slots. */
const nameOf = ({ options }: Redis): string => `${options.host}:${options.port}`;
