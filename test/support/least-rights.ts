import { readFileSync } from 'node:fs';
import path from 'node:path';

export const USER = 'shop';
export const PASSWORD = 'secret';

type Product = 'redis' | 'dragonfly';

/**
 * The arguments of ACL SETUSER that docs/servers.md gives as the rights the library needs, for keys
 * that begin with `app:`.
 */
export const leastRights = (product: Product = 'redis'): string[] => documented()[product];

/** The same, with what shadow keys of every type need besides. */
export const leastRightsAndShadowKeys = (product: Product = 'redis'): string[] => {
  const rules = documented();
  return [...rules[product], ...rules.shadowKeys.slice(1)];
};

function documented(): Record<Product | 'shadowKeys', string[]> {
  const page = readFileSync(path.join(__dirname, '../../docs/servers.md'), 'utf8');
  const rules = [...page.matchAll(/^ACL SETUSER ([\s\S]*?)```/gm)].map(([, rule]) =>
    rule!.replaceAll('shop:*', 'atomic:*').replaceAll('\\\n', ' ').trim().split(/\s+/),
  );
  const [redis, shadowKeys, dragonfly, ...others] = rules;
  if (!redis || !shadowKeys || !dragonfly || others.length > 0)
    throw new Error('docs/servers.md has three rules that begin with ACL SETUSER');
  return { redis, shadowKeys, dragonfly };
}
