import { Redis } from 'ioredis';
import {
  startFaultProxy,
  startRedisServer,
  type FaultProxy,
  type RedisServer,
} from 'nestjs-atomic-redis/testing';
import { waitFor } from '../test/support/wait-for.js';
import { Actor, later } from './actor.js';
import { fileOf, type Peer } from './peers.js';

interface Member {
  readonly server: RedisServer;
  readonly client: Redis;
}

/** A read that has no answer by then is made again: its server may have died meanwhile. */
const UNANSWERED_MS = 1_000;

/** Synced before it is answered: what was acknowledged survives a crash. */
const DURABLE = ['--appendonly', 'yes', '--appendfsync', 'always'];

/**
 * A Redis, two processes that use a peer, a proxy before each, and a Redis of the harness's own.
 */
export class Arena {
  private constructor(
    private master: Member,
    private replica: Member | undefined,
    readonly witness: Redis,
    readonly proxies: readonly FaultProxy[],
    readonly actors: readonly Actor[],
  ) {}

  private ids = 0;

  static async open(
    peer: Peer,
    { binary, witnessUrl, isPair }: { binary: string | undefined; witnessUrl: string; isPair: boolean },
  ): Promise<Arena> {
    const args = isPair ? ['--repl-diskless-sync-delay', '0'] : DURABLE;
    const start = async (): Promise<Member> => {
      const server = await startRedisServer({ ...(binary && { binary }), args });
      const client = new Redis(server.url, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
      client.on('error', () => {});
      return { server, client };
    };
    const [master, replica] = await Promise.all([start(), isPair ? start() : undefined]);
    const proxies = await Promise.all([0, 1].map(() => startFaultProxy({ target: master.server })));
    const actors = proxies.map(
      ({ url }, index) => new Actor(index, { job: peer.job, file: fileOf(peer), url, witnessUrl }),
    );
    const arena = new Arena(master, replica, new Redis(witnessUrl), proxies, actors);
    try {
      if (replica) await arena.follow(replica, master);
      await Promise.all(actors.map((actor) => actor.start()));
    } catch (error) {
      await arena.close();
      throw error;
    }
    return arena;
  }

  /** Names one run: no other run, of whichever arena, has it. */
  nextId(): string {
    return `${this.master.server.port}x${++this.ids}`;
  }

  get server(): RedisServer {
    return this.master.server;
  }

  /** To the master of now, past the proxies. */
  get admin(): Redis {
    return this.master.client;
  }

  /** Reads from the master, also where another one takes its place meanwhile. */
  async read<T>(command: (admin: Redis) => Promise<T>): Promise<T> {
    for (;;) {
      const answer = await Promise.race([
        command(this.admin).then((value) => ({ value })),
        later(UNANSWERED_MS, undefined),
      ]);
      if (answer) return answer.value;
    }
  }

  /** From now on the replica gets nothing more. */
  async detachReplica(): Promise<void> {
    await this.synced();
    await this.replica!.client.replicaof('NO', 'ONE');
  }

  /**
   * The master holds writes until the replica has everything, and they change places. As Sentinel
   * does, it disconnects the old master's clients.
   */
  async failOver(): Promise<void> {
    await this.synced();
    const [old, next] = [this.master, this.replica!];
    await old.client.call('FAILOVER');
    await waitFor('the replica is the master', async () =>
      (await next.client.info('replication')).includes('role:master'),
    );
    for (const proxy of this.proxies) proxy.moveTo(next.server);
    await waitFor('the master is the replica', async () =>
      (await old.client.info('replication')).includes('role:slave'),
    );
    await old.client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    [this.master, this.replica] = [next, old];
  }

  /** The master dies with what a detached replica has not got. */
  async loseMaster(): Promise<void> {
    const [old, next] = [this.master, this.replica!];
    await old.server.kill();
    for (const proxy of this.proxies) proxy.moveTo(next.server);
    [this.master, this.replica] = [next, old];
  }

  /** Ends what a fault has left, between two runs. */
  async mend(): Promise<void> {
    for (const proxy of this.proxies) proxy.reset();
    for (const actor of this.actors) actor.resume();
    this.server.resume();
    if (!this.server.running) await this.server.restart();
    await this.admin.config('SET', 'maxmemory', '0');
    if (this.replica) {
      if (!this.replica.server.running) await this.replica.server.restart();
      await this.follow(this.replica, this.master);
    }
  }

  async close(): Promise<void> {
    for (const actor of this.actors) actor.resume();
    await Promise.all(this.actors.map((actor) => actor.stop()));
    for (const member of [this.master, this.replica]) member?.client.disconnect();
    this.witness.disconnect();
    await Promise.all(this.proxies.map((proxy) => proxy.stop()));
    await Promise.all([this.master.server.stop(), this.replica?.server.stop()]);
  }

  private async follow({ client }: Member, { server }: Member): Promise<void> {
    await client.replicaof(server.host, server.port);
    await this.synced();
  }

  private synced(): Promise<unknown> {
    return waitFor('the replica has all', async () => {
      const offset = /master_repl_offset:(\d+)/.exec(await this.master.client.info('replication'))?.[1];
      const info = await this.replica!.client.info('replication');
      return info.includes('master_link_status:up') && info.includes(`slave_repl_offset:${offset}`);
    });
  }
}
