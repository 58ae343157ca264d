import { Redis } from 'ioredis';
import {
  startFaultProxy,
  startRedisServer,
  type FaultProxy,
  type RedisServer,
} from '../../lib/testing/index.js';
import { waitFor } from './wait-for.js';

interface Member {
  readonly server: RedisServer;
  readonly client: Redis;
}

/**
 * A master and its replica behind one stable address, as the primary endpoint of a managed service.
 */
export interface FailoverPair {
  /** The address. */
  readonly address: FaultProxy;
  /** The current servers. */
  readonly master: Member;
  readonly replica: Member;
  /** The replica has all that its master has. */
  synced(): Promise<unknown>;
  /**
   * A planned failover: the replica is the master from now on, the old master its replica; new
   * connections reach the new master, old ones the old one.
   */
  failOver(): Promise<void>;
  stop(): Promise<void>;
}

export async function startFailoverPair(): Promise<FailoverPair> {
  const start = async (): Promise<Member> => {
    const server = await startRedisServer({
      binary: process.env['TEST_REDIS_BINARY'],
      args: ['--repl-diskless-sync-delay', '0'],
    });
    return { server, client: new Redis(server.url) };
  };
  let [master, replica] = await Promise.all([start(), start()]);
  const follow = ({ client }: Member, { server }: Member) => client.replicaof(server.host, server.port);
  const synced = () =>
    waitFor('the replica has all', async () => {
      const offset = /master_repl_offset:(\d+)/.exec(await master.client.info('replication'))?.[1];
      const info = await replica.client.info('replication');
      return info.includes('master_link_status:up') && info.includes(`slave_repl_offset:${offset}`);
    });
  await follow(replica, master);
  await synced();
  const address = await startFaultProxy({ target: master.server });
  return {
    address,
    get master() {
      return master;
    },
    get replica() {
      return replica;
    },
    synced,
    async failOver() {
      await synced();
      await replica.client.replicaof('NO', 'ONE');
      address.moveTo(replica.server);
      await follow(master, replica);
      [master, replica] = [replica, master];
    },
    async stop() {
      for (const { client } of [master, replica]) client.disconnect();
      await address.stop();
      await Promise.all([master.server.stop(), replica.server.stop()]);
    },
  };
}
