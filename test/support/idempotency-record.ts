import type { Redis } from 'ioredis';
import type { RedisClient } from '../../lib/connection/client.js';

/** An idempotency record as it is stored, taken apart. */
export interface RecordFields {
  version: string;
  state: string;
  token: string;
  fingerprint: string;
  kind: string;
  aliveUntil: string;
  trace: string;
  result: string;
}

const NAMES = ['version', 'state', 'token', 'fingerprint', 'kind', 'aliveUntil', 'trace', 'result'] as const;

type Client = Pick<Redis | RedisClient, 'getBuffer' | 'set'>;

/**
 * Its bytes as latin1, so that a result which is no text survives. Undefined where there is none.
 */
export async function readRecord(client: Client, key: string): Promise<RecordFields | undefined> {
  const text = (await client.getBuffer(key))?.toString('latin1');
  if (text === undefined) return undefined;
  const parts = text.split('|');
  const fields = [...parts.slice(0, 7), parts.slice(7).join('|')];
  return Object.fromEntries(NAMES.map((name, i) => [name, fields[i]])) as unknown as RecordFields;
}

export const stateOf = async (client: Client, key: string): Promise<string | undefined> =>
  (await readRecord(client, key))?.state;

/** Overwrites some of its fields. */
export async function damageRecord(
  client: Client,
  key: string,
  damage: Partial<RecordFields>,
): Promise<void> {
  const fields = { ...(await readRecord(client, key))!, ...damage };
  const text = NAMES.map((name) => fields[name]).join('|');
  await client.set(key, Buffer.from(text, 'latin1'), 'KEEPTTL');
}
