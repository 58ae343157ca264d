import { Logger } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { addressOf } from './client.js';
import { Deadline } from '../runtime/deadline.js';
import type { KeySpace } from '../scripting/key-space.js';
import { randomId } from '../runtime/random-id.js';
import { checkConnection, OutOfOrderError, type ConnectionFacts } from './connection-check.js';
import { refusedCommands } from './refused-commands.js';
import type { ServerInfo } from './server-info.js';
import { strictest, traitsOf } from './server-traits.js';

const logger = new Logger('AtomicRedisModule');

/** The time to find the commands that a server refuses, in milliseconds. */
const RIGHTS_TIMEOUT_MS = 5_000;

const OLDEST = { Redis: [7, 0], Valkey: [8, 0] } as const;

/**
 * Examines each server when it is first connected. Returns the reason if it is unfit, and logs what
 * the user should know, one line each.
 */
export class ServerChecks {
  /** The strictest traits of all servers checked so far; with one server, its present traits. */
  traits = strictest([]);
  private readonly made = new WeakMap<
    Redis,
    { readonly runId: string | undefined; readonly problem: Promise<string | undefined> }
  >();

  constructor(
    /** True if the connection follows redirections. */
    private readonly isCluster: boolean,
    private readonly keys: KeySpace,
    /** Makes a client to the same server, for questions that no other command may come between. */
    private readonly scratch: (near: Redis) => Redis,
  ) {}

  /** Resolves with the reason why a server cannot be used. @param facts of the only server */
  async problemOf(
    servers: readonly Redis[],
    facts: ConnectionFacts | undefined,
  ): Promise<string | undefined> {
    const found = await Promise.all(servers.map((server) => this.of(server, facts)));
    return found.find((problem) => problem !== undefined);
  }

  /** Returns true if the address led to another server before. */
  isAnother(server: Redis, runId: string | undefined): boolean {
    const before = this.made.get(server);
    return before !== undefined && (runId === undefined || before.runId !== runId);
  }

  /**
   * Resolves with the reason why the server cannot be used at all; undefined also if that could not
   * be asked.
   */
  async of(server: Redis, facts?: ConnectionFacts): Promise<string | undefined> {
    const runId = facts?.info?.runId;
    if (facts?.info) this.traits = traitsOf(facts.info);
    let made = this.made.get(server);
    if (!made || (facts && made.runId !== runId)) {
      made = { runId, problem: this.check(server, facts) };
      this.made.set(server, made);
    }
    return await made.problem.catch(() => {
      // Its connection was lost: the next one asks again.
      if (this.made.get(server) === made) this.made.delete(server);
      return undefined;
    });
  }

  private async check(server: Redis, known?: ConnectionFacts): Promise<string | undefined> {
    const address = addressOf(server);
    const key = this.keys.global('check', randomId('hex'));
    // The Cluster client adds the prefix, not its nodes.
    const name = this.isCluster ? this.keys.keyPrefix + key : key;
    const [facts, refused] = await Promise.all([
      known ?? this.factsOf(server, name),
      this.refusedBy(server, name),
    ]);
    if (typeof facts === 'string') {
      logger.error(facts);
      return facts;
    }
    const { lacks } = traitsOf(facts.info);
    const missing = refused.filter((command) => !lacks.includes(command));
    if (missing.length > 0) {
      logger.error(
        `Redis at ${address}: missing or forbidden commands for this user on ${this.keys.keyPrefix}${this.keys.namespace}*: ${missing.join(', ')}. Calls that need ` +
          `them will fail. Grant the rights that docs/servers.md lists`,
      );
    }
    const { info, role, infoRefusal } = facts;
    if (!role)
      logger.warn(
        `Redis at ${address} does not tell whether it is the master: INFO, ROLE and SET are refused. Make sure that the address leads to one`,
      );
    if (!info) {
      logger.warn(
        `Redis at ${address} does not tell its kind, version and eviction policy, since INFO failed: ${infoRefusal?.message}`,
      );
      return undefined;
    }
    const problem =
      !this.isCluster && info.isClusterNode && info.product !== 'Dragonfly'
        ? `${address} is a node of a Cluster: pass connection: { nodes: [{ host, port }] }, so that keys are looked for where they are`
        : problemOf(info, address);
    if (problem) {
      logger.error(problem);
      return problem;
    }
    logger.log(`Connected to ${info.product} ${info.version} at ${address}`);
    const traits = traitsOf(info);
    this.traits = this.isCluster ? strictest([this.traits, traits]) : traits;
    if (traits.advice) logger.warn(`${info.product} at ${address}: ${traits.advice}`);
    warnOfEviction(info, address);
    return undefined;
  }

  /** Returns the facts of a Cluster node, or the reason why it cannot be used. */
  private async factsOf(server: Redis, absentKey: string): Promise<ConnectionFacts | string> {
    try {
      return await checkConnection(server, absentKey);
    } catch (error) {
      // A node that has become a replica, or is loading, answers MOVED or LOADING.
      if (!(error instanceof OutOfOrderError) || !error.isLasting) throw error;
      return `Redis at ${addressOf(server)} cannot be used: ${error.message}`;
    }
  }

  private async refusedBy(server: Redis, name: string): Promise<string[]> {
    const client = this.scratch(server);
    try {
      const asked = client.connect().then(() => refusedCommands(client, name, this.isCluster));
      // A connection that hangs would keep the process alive after the module was closed.
      return await Deadline.in(RIGHTS_TIMEOUT_MS).race(asked, () => new Error('not in time'));
    } finally {
      client.disconnect();
    }
  }
}

function problemOf({ product, version }: ServerInfo, address: string): string | undefined {
  if (!(product in OLDEST)) return undefined;
  const oldest = OLDEST[product as keyof typeof OLDEST];
  const [major = NaN, minor = 0] = version.split('.').map(Number);
  return major < oldest[0] || (major === oldest[0] && minor < oldest[1])
    ? `${product} ${version} at ${address} is too old: Redis ${OLDEST.Redis.join('.')} or Valkey ${OLDEST.Valkey.join('.')} is needed`
    : undefined;
}

/**
 * Warns of a server that deletes keys when its memory is full: the library relies on some of them.
 */
function warnOfEviction({ evictionPolicy }: ServerInfo, address: string): void {
  if (!evictionPolicy) return;
  logger.warn(
    `Redis at ${address} evicts keys when its memory is full (maxmemory-policy ${evictionPolicy}). An evicted idempotency record lets its method run again, and an ` +
      `evicted marker leaves an outcome unknown. Use maxmemory-policy noeviction, or a Redis of its own for these keys.`,
  );
}
