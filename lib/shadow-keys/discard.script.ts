import { defineScript } from '../redis/script.js';

/** Removes shadows. Their names are never used again, so a copy of it may come at any time. */
export const discardScript = defineScript({
  name: 'shadow-keys.discard',
  keys: ['...shadows'],
  args: [],
  reply: () => undefined,
  lua: `
-- KEYS[1…]  shadows
-- Returns nothing
for i = 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
`,
});
