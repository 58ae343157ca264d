import { defineScript } from '../../redis/script.js';

/** Reads one transfer; undefined when it is not listed any more. */
export const readScript = defineScript({
  name: 'transfers.read',
  keys: ['intents'],
  args: ['id'],
  reply: (raw) => (raw as string | null) ?? undefined,
  readOnly: true,
  lua: `
-- KEYS[1]  intents: of the slot, a hash of "<state>,<amount>,<details>" by id
-- ARGV[1]  id: of the transfer
-- Returns a string: "<state>,<amount>,<details>"; nil when there is none
return redis.call('HGET', KEYS[1], ARGV[1])
`,
});
