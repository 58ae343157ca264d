import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { startFaultProxy, type FaultProxy } from '../../lib/testing/index.js';
import type { FailoverPair } from '../support/failover-pair.js';

/** The addresses of one pair of servers: one for the library, one for plain ioredis. */
export interface Production {
  readonly pair: FailoverPair;
  readonly plainAddress: FaultProxy;
  /** Given to the library by a function. */
  password: string;
}

type Fault = (production: Production) => Promise<void>;

const USER = 'app';
const both = ({ pair }: Production): Redis[] => [pair.master.client, pair.replica.client];
const addresses = ({ pair, plainAddress }: Production): FaultProxy[] => [pair.address, plainAddress];

export async function allow(production: Production, password: string): Promise<void> {
  for (const client of both(production))
    await client.call('ACL', 'SETUSER', USER, 'on', '~*', '&*', '+@all', 'resetpass', `>${password}`);
  production.password = password;
}

/** Each resolves when its cause is gone: from then on callers recover. */
export const PRODUCTION_FAULTS: Readonly<Record<string, Fault>> = {
  failover: async ({ pair, plainAddress }) => {
    const { client } = pair.master;
    // Acts like FAILOVER: the new master has everything that was acknowledged.
    await client.call('CLIENT', 'PAUSE', '10000', 'WRITE');
    await pair.failOver();
    plainAddress.moveTo(pair.master.server);
    await client.call('CLIENT', 'UNPAUSE');
  },
  'password rotated': async (production) => {
    await allow(production, `secret-${Math.random()}`);
    for (const client of both(production)) await client.call('CLIENT', 'KILL', 'USER', USER);
  },
  'idle connections forgotten': (production) => {
    for (const address of addresses(production)) address.blackHoleNow();
    return Promise.resolve();
  },
  'connections cut': (production) => {
    for (const address of addresses(production)) address.disconnectAll();
    return Promise.resolve();
  },
  'slow line': async (production) => {
    for (const address of addresses(production)) address.limitSpeed(100_000);
    await sleep(2_000);
    for (const address of addresses(production)) address.limitSpeed(undefined);
  },
  'BUSY script': async ({ pair }) => {
    const { server, client } = pair.master;
    await client.config('SET', 'busy-reply-threshold', '200');
    const other = new Redis(server.url);
    const script = other.call('EVAL_RO', 'while true do end', '0').catch(() => undefined);
    await sleep(1_200);
    await client.script('KILL').catch(() => undefined);
    await script;
    other.disconnect();
  },
  'server stands still': async ({ pair }) => {
    pair.master.server.pause();
    await sleep(1_200);
    pair.master.server.resume();
  },
  maxclients: async (production) => {
    const { client } = production.pair.master;
    const [, before] = (await client.config('GET', 'maxclients')) as [string, string];
    const connected = /connected_clients:(\d+)/.exec(await client.info('clients'))![1]!;
    await client.config('SET', 'maxclients', String(Math.max(3, Number(connected) - 4)));
    for (const address of addresses(production)) address.disconnectAll();
    await sleep(1_000);
    await client.config('SET', 'maxclients', before);
  },
};

export const startPlainAddress = (pair: FailoverPair): Promise<FaultProxy> =>
  startFaultProxy({ target: pair.master.server });
