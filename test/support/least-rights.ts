import { readFileSync } from 'node:fs';
import path from 'node:path';

export const USER = 'shop';
export const PASSWORD = 'secret';

/** The arguments of ACL SETUSER that docs/servers.md gives as the rights the library needs, for keys that begin with `app:`. */
export const leastRights = (): string[] => documented()[0]!;

/** The same, with what shadow keys of every type need besides. */
export const leastRightsAndShadowKeys = (): string[] => {
  const [all, shadowKeys] = documented();
  return [...all!, ...shadowKeys!.slice(1)];
};

function documented(): string[][] {
  const page = readFileSync(path.join(__dirname, '../../docs/servers.md'), 'utf8');
  const rules = [...page.matchAll(/^ACL SETUSER ([\s\S]*?)```/gm)].map(([, rule]) =>
    rule!.replaceAll('shop:*', 'atomic:*').replaceAll('\\\n', ' ').trim().split(/\s+/),
  );
  if (rules.length !== 2) throw new Error('docs/servers.md has two rules that begin with ACL SETUSER');
  return rules;
}
