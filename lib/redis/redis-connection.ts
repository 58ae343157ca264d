import type { Redis } from 'ioredis';
import { ConfigurationError, ModuleClosedError, RedisUnavailableError } from '../atomic-redis.errors.js';
import { checkRole, OutOfOrderError, type ConnectionFacts } from '../connection/connection-check.js';
import { Credentials, type PasswordSource, type UsernameSource } from '../connection/credentials.js';
import { ConnectionWatch } from '../connection/connection-watch.js';
import { DedicatedConnections } from '../connection/dedicated-connections.js';
import { ServerChecks } from '../connection/server-check.js';
import { probeServer } from '../connection/server-probe.js';
import { askStatuses, type ServerStatus } from '../connection/server-status.js';
import { SharedConnection } from '../connection/shared-connection.js';
import { nameOf, Topology } from '../connection/topology.js';
import type { Observer } from '../observability/observer.js';
import { isClusterClient, openDedicatedClient, type ConnectionOption, type RedisClient } from './client.js';
import { sleep, type Deadline } from './deadline.js';
import { DurableChannels, type DurableChannel } from './durable-channel.js';
import type { DurabilityOptions } from './durability.js';
import { KeySpace } from './key-space.js';
import { randomId } from './random-id.js';
import { isFromReplica } from './reply-errors.js';
import { batchOf } from './script-batch.js';
import type { Script } from './script.js';
import { ServerClocks } from './server-clock.js';

/** Connections are not replaced more often than this for a password that ends. */
const MIN_RENEWAL_MS = 1_000;

/** The longest that a timer of Node.js can wait. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface RedisConnectionOptions {
  connection: ConnectionOption;
  username?: UsernameSource | undefined;
  password?: PasswordSource | undefined;
  namespace: string;
  /** Of the registration; goes into CLIENT LIST. */
  name: string;
  timeoutMs: number;
  observer: Observer;
}

/**
 * The library's own way to one Redis, Sentinel group or Cluster: the shared client for commands and scripts, and
 * dedicated connections for callers that must be alone on one.
 */
export class RedisConnection {
  readonly client: RedisClient;
  readonly keys: KeySpace;
  readonly isCluster: boolean;
  /** Is told of round trips, waits and lost replies. */
  readonly observer: Observer;
  private readonly scripts = new Set<Script>();
  private readonly clocks = new ServerClocks();
  private readonly durableChannels = new DurableChannels((owner, deadline) =>
    this.openDedicated(owner, 'durable', deadline),
  );
  private readonly topology: Topology;
  private readonly serverChecks: ServerChecks;
  private readonly shared: SharedConnection;
  private readonly dedicated: DedicatedConnections;
  private readonly watch: ConnectionWatch;
  private readonly credentials: Credentials | undefined;
  private renewal: NodeJS.Timeout | undefined;

  constructor({ connection, username, password, namespace, name, observer }: RedisConnectionOptions) {
    this.credentials = Credentials.of(username, password);
    const { credentials } = this;
    const connectionName = `nestjs-atomic-redis:${name}`;
    this.observer = observer;
    this.shared = new SharedConnection(
      { connection, connectionName, credentials, absentKey: () => this.keys.own('check', randomId('hex')) },
      {
        admitted: (facts, isNew) => this.admitted(facts, isNew),
        leaving: () => this.dedicated.leaveServer(),
      },
    );
    const { client } = this.shared;
    this.client = client;
    this.isCluster = this.shared.isCluster;
    this.keys = new KeySpace(namespace, client.options.keyPrefix);
    this.topology = new Topology(client);
    this.dedicated = new DedicatedConnections({
      connectionName,
      keyPrefix: this.keys.keyPrefix,
      absentKey: (near) => this.absentKeyOn(near),
      mustReconnect: (answer, isCurrent) => this.endsConnection(answer, isCurrent),
      foundReplica: () => void this.askRole().catch(() => undefined),
      unavailable: (cause) => this.unavailable(cause),
    });
    this.serverChecks = new ServerChecks(this.isCluster, this.keys, (near) =>
      openDedicatedClient(near, `${connectionName}:check`, this.keys.keyPrefix, () => false),
    );
    this.watch = new ConnectionWatch({
      shared: () => this.topology.masters(),
      dedicated: () => this.dedicated.all(),
      probe: (silent) =>
        probeServer(
          silent,
          () =>
            openDedicatedClient(
              this.topology.near(silent),
              `${connectionName}:probe`,
              this.keys.keyPrefix,
              () => false,
            ),
          this.absentKeyOn(silent),
        ),
      drop: (dead, reason) => this.drop(dead, reason),
      distrust: () => this.shared.distrust(),
      askRole: () => this.askRole(),
    });
    client.on('close', () => this.dedicated.lost());
    if (isClusterClient(client)) client.on('+node', (node: Redis) => this.prepareOnConnect(node));
    else {
      const clock = this.clocks.of(client);
      client.on('close', () => clock.forget());
      // In one write with the questions whether the connection is in order.
      client.on('ready', () => void clock.learn().catch(() => undefined));
    }
  }

  get address(): string {
    return this.shared.address;
  }

  /** The most arguments that one command may have at the servers. */
  get maxArguments(): number {
    return this.serverChecks.traits.maxArguments;
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
    this.watch.start();
    this.shared.open();
  }

  /** Whether a command written in this tick goes to a live connection that is in order. */
  get isReady(): boolean {
    return this.shared.isReady;
  }

  /** Holds back what is written from now on, to leave in one system call for each server when the function that is returned is called. */
  holdWrites(): () => void {
    const streams = this.topology.streams();
    for (const stream of streams) stream.cork();
    return () => {
      for (const stream of streams) stream.uncork();
    };
  }

  /** @throws RedisUnavailableError when no connection is in order by the deadline; ModuleClosedError after {@link close} */
  async ready(deadline: Deadline): Promise<void> {
    this.open();
    await this.shared.ready(deadline);
  }

  /**
   * Waits until the servers are connected to and checked, up to the deadline, while the application starts.
   * @throws RedisUnavailableError when there is no connection by the deadline
   * @throws ConfigurationError when a server cannot be used, or a connection to it is not in order: wrong credentials or database, a replica
   */
  async verifyServers(deadline: Deadline): Promise<void> {
    this.open();
    await this.shared.firstReady(deadline);
    const checked = this.serverChecks.problemOf(this.topology.masters(), this.shared.facts);
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
   * A connection of its own to the server of that name, in order. The caller closes it; it never reconnects.
   * @throws RedisUnavailableError when it is not a master any more, or cannot be reached by the deadline; ModuleClosedError after {@link close}
   */
  async openDedicated(owner: string, purpose: string, deadline: Deadline): Promise<Redis> {
    const node = this.topology.named(owner);
    if (!node) throw this.unavailable(new Error(`${owner} is no known master`));
    const client = await this.dedicated.open(node, purpose, deadline);
    if (!this.shared.isClosed) return client;
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
    const role = this.shared.facts?.role;
    return await askStatuses(servers, [...this.scripts], role, deadline, (cause) => this.unavailable(cause));
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

  /**
   * Is told of an error that arrived inside an answer, where the client does not see it. A replica says that another server is the master: all connections to it are
   * given up, and calls wait for the next one.
   */
  refused(error: unknown): void {
    if (isFromReplica(error)) this.shared.leave(error as Error);
  }

  /** Closes what it opened. Waiting callers get a ModuleClosedError. */
  async close(): Promise<void> {
    this.watch.stop();
    clearTimeout(this.renewal);
    this.durableChannels.close();
    await this.shared.close();
  }

  unavailable(cause?: Error): RedisUnavailableError {
    return this.shared.unavailable(cause);
  }

  closedError(): ModuleClosedError {
    return this.shared.closedError();
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

  /** The shared connection to one server, or to a Sentinel group's master. */
  private admitted(facts: ConnectionFacts, isNew: boolean): void {
    const client = this.client as Redis;
    const { runId } = facts.info ?? {};
    // Connections of their own may lead to a server that the address has left.
    if (isNew && this.serverChecks.isAnother(client, runId)) this.dedicated.leaveServer();
    void this.serverChecks.of(client, facts);
    if (isNew) this.loadScripts(client);
    if (isNew) this.renewInTime();
  }

  private prepareOnConnect(node: Redis): void {
    const clock = this.clocks.of(node);
    node.on('close', () => clock.forget());
    node.on('ready', () => {
      void this.serverChecks.of(node);
      clock.learn().catch(() => undefined);
      this.loadScripts(node);
    });
  }

  private loadScripts(node: Redis): void {
    // A script that could not be loaded ahead is loaded at its first call.
    for (const script of this.scripts)
      for (const { lua } of [script, batchOf(script) ?? []].flat())
        node.script('LOAD', lua).catch(() => undefined);
  }

  /** @param isCurrent it was opened since the server was last left; an older one says nothing new */
  private endsConnection(answer: Error, isCurrent: boolean): boolean {
    const isWrongServer = isFromReplica(answer);
    if (isWrongServer && isCurrent) this.shared.leave(answer);
    return isWrongServer || this.shared.givenReconnectOnError(answer);
  }

  private async askRole(): Promise<void> {
    const { facts } = this.shared;
    if (this.isCluster || !this.isReady || !facts) return;
    try {
      await checkRole(this.client as Redis, facts, this.absentKeyOn(this.client as Redis));
    } catch (error) {
      if (error instanceof OutOfOrderError) this.shared.leave(error);
    }
  }

  private drop(dead: Redis, reason: Error): void {
    // Load balancers forget all idle connections alike.
    this.dedicated.dropIdle((client) => client !== dead && this.watch.isIdle(client));
    if (dead === this.client) this.shared.destroy(reason);
    else dead.stream.destroy(reason);
  }

  /** Replaces connections before the password that they signed in with ends: each once nobody waits for an answer on it. */
  private renewInTime(): void {
    clearTimeout(this.renewal);
    const { expiresAt } = this.credentials?.known ?? {};
    if (expiresAt === undefined) return;
    const leftMs = expiresAt - Date.now();
    // All processes have the same time.
    const dueMs = Math.max(MIN_RENEWAL_MS, leftMs * (0.75 + Math.random() * 0.15));
    const renew = (): void => {
      const isIdle = (client: Redis): boolean => this.watch.isIdle(client);
      const mustNow = Date.now() > expiresAt - leftMs * 0.05;
      this.dedicated.dropIdle(isIdle);
      if (isIdle(this.client as Redis) || mustNow) this.shared.renew();
      else this.renewal = setTimeout(renew, 20).unref();
    };
    this.renewal = setTimeout(renew, Math.min(dueMs, MAX_TIMER_MS)).unref();
  }

  /** A name that no key has, in a slot of that server. */
  private absentKeyOn(server: Redis): string {
    const slot = this.topology.slotOf(server);
    const id = randomId('hex');
    return slot === undefined ? this.keys.own('check', id) : this.keys.inSlot('check', slot, id);
  }
}
