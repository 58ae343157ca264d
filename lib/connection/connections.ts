import type { Redis } from 'ioredis';
import { ConfigurationError } from '../atomic-redis.errors.js';
import { isClusterClient, openDedicatedClient, type ConnectionOption } from './client.js';
import type { Deadline } from '../runtime/deadline.js';
import { KeySpace } from '../scripting/key-space.js';
import { randomId } from '../runtime/random-id.js';
import { isFromReplica } from './reply-errors.js';
import { checkRole, OutOfOrderError, type ConnectionFacts } from './connection-check.js';
import { ConnectionWatch } from './connection-watch.js';
import type { Credentials } from './credentials.js';
import { DedicatedConnections } from './dedicated-connections.js';
import { ServerChecks } from './server-check.js';
import { probeServer } from './server-probe.js';
import { SharedConnection } from './shared-connection.js';
import { Topology } from './topology.js';

export interface ConnectionsSettings {
  readonly connection: ConnectionOption;
  readonly credentials: Credentials | undefined;
  readonly connectionName: string;
  readonly namespace: string;
  /** Called when a connection to a server was opened; on a Cluster, to a node. */
  readonly opened: (server: Redis) => void;
}

/**
 * All connections to one Redis, Sentinel group or Cluster: opens, judges, watches and replaces
 * them.
 */
export class Connections {
  readonly shared: SharedConnection;
  readonly keys: KeySpace;
  readonly topology: Topology;
  private readonly dedicated: DedicatedConnections;
  private readonly serverChecks: ServerChecks;
  private readonly watch: ConnectionWatch;

  constructor(private readonly settings: ConnectionsSettings) {
    const { connection, credentials, connectionName, namespace } = settings;
    this.shared = new SharedConnection(
      {
        connection,
        connectionName,
        credentials,
        absentKey: () => this.keys.global('check', randomId('hex')),
      },
      {
        admitted: (facts, isNew) => this.admitted(facts, isNew),
        leaving: () => this.dedicated.leaveServer(),
      },
    );
    const { client } = this.shared;
    this.keys = new KeySpace(namespace, client.options.keyPrefix);
    this.topology = new Topology(client);
    this.dedicated = new DedicatedConnections({
      connectionName,
      keyPrefix: this.keys.keyPrefix,
      absentKey: (near) => this.absentKeyOn(near),
      mustReconnect: (answer, isCurrent) => this.endsConnection(answer, isCurrent),
      foundReplica: () => void this.askRole().catch(() => undefined),
      unavailable: (cause) => this.shared.unavailable(cause),
    });
    this.serverChecks = new ServerChecks(this.shared.isCluster, this.keys, (near) =>
      this.scratch(near, 'check'),
    );
    this.watch = new ConnectionWatch({
      shared: () => this.topology.masters(),
      dedicated: () => this.dedicated.all(),
      probe: (silent) =>
        probeServer(
          silent,
          () => this.scratch(this.topology.near(silent), 'probe'),
          this.absentKeyOn(silent),
        ),
      drop: (dead, reason) => this.drop(dead, reason),
      renew: (ending) => this.renew(ending),
      distrust: () => this.shared.distrust(),
      askRole: () => this.askRole(),
    });
    client.on('close', () => this.dedicated.lost());
    if (isClusterClient(client))
      client.on('+node', (node: Redis) =>
        node.on('ready', () => {
          void this.serverChecks.of(node);
          this.settings.opened(node);
        }),
      );
  }

  /** The most arguments that one command may have at the servers. */
  get maxArguments(): number {
    return this.serverChecks.traits.maxArguments;
  }

  /** Starts connecting, and keeps reconnecting until closed. */
  open(): void {
    this.watch.start();
    this.shared.open();
  }

  /**
   * Waits, while the application starts, until the servers are connected and checked.
   * @throws RedisUnavailableError when there is no connection by the deadline
   * @throws ConfigurationError when a server cannot be used, or a connection to it is not in order:
   * wrong credentials or database, a replica
   */
  async verifyServers(deadline: Deadline): Promise<void> {
    this.open();
    await this.shared.firstReady(deadline);
    const checked = this.serverChecks.problemOf(this.topology.masters(), this.shared.facts);
    const problem = await deadline.race(checked, () => this.shared.unavailable()).catch(() => undefined);
    if (problem) throw new ConfigurationError(problem);
  }

  /**
   * Opens a dedicated connection to the server of that name, and checks it. The caller closes it;
   * it never reconnects.
   * @throws RedisUnavailableError when it is no longer a master, or cannot be reached by the
   * deadline; ModuleClosedError after {@link close}
   */
  async openDedicated(owner: string, purpose: string, deadline: Deadline): Promise<Redis> {
    const node = this.topology.named(owner);
    if (!node) throw this.shared.unavailable(new Error(`${owner} is no known master`));
    const client = await this.dedicated.open(node, purpose, deadline);
    if (!this.shared.isClosed) return client;
    client.disconnect();
    throw this.shared.closedError();
  }

  /**
   * Closes the shared connection; owners close the others. Waiting callers get a ModuleClosedError.
   */
  async close(): Promise<void> {
    this.watch.stop();
    await this.shared.close();
  }

  /** The shared connection to one server, or to a Sentinel group's master. */
  private admitted(facts: ConnectionFacts, isNew: boolean): void {
    const client = this.shared.client as Redis;
    const { runId } = facts.info ?? {};
    // Connections of their own may lead to a server that the address has left.
    if (isNew && this.serverChecks.isAnother(client, runId)) this.dedicated.leaveServer();
    void this.serverChecks.of(client, facts);
    if (isNew) this.settings.opened(client);
  }

  /**
   * @param isCurrent true if it was opened since the server was last left; an older one says
   * nothing new
   */
  private endsConnection(answer: Error, isCurrent: boolean): boolean {
    const isWrongServer = isFromReplica(answer);
    if (isWrongServer && isCurrent) this.shared.leave(answer);
    return isWrongServer || this.shared.givenReconnectOnError(answer);
  }

  private async askRole(): Promise<void> {
    const { facts, isCluster, isReady } = this.shared;
    if (isCluster || !isReady || !facts) return;
    const client = this.shared.client as Redis;
    try {
      await checkRole(client, facts, this.absentKeyOn(client));
    } catch (error) {
      // A server that is only busy is asked again.
      if (error instanceof OutOfOrderError && error.disorder === 'replica') this.shared.leave(error);
    }
  }

  private drop(dead: Redis, reason: Error): void {
    // A load balancer drops all idle connections alike.
    this.dedicated.dropIdle(dead);
    if (dead === this.shared.client) this.shared.destroy(reason);
    else dead.stream.destroy(reason);
  }

  private renew(connection: Redis): void {
    if (this.topology.masters().includes(connection)) this.shared.renew(connection);
    else connection.disconnect();
  }

  /** Makes a client for a few questions, which no other command may come between. */
  private scratch(near: Redis, purpose: string): Redis {
    const name = `${this.settings.connectionName}:${purpose}`;
    return openDedicatedClient(near, name, this.keys.keyPrefix, () => false);
  }

  /** Returns a name that no key has, in a slot of that server. */
  private absentKeyOn(server: Redis): string {
    const slot = this.topology.slotOf(server);
    const id = randomId('hex');
    return slot === undefined ? this.keys.global('check', id) : this.keys.pinned('check', slot, id);
  }
}
