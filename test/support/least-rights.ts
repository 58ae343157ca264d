import { readFileSync } from 'node:fs';
import path from 'node:path';

export const USER = 'shop';
export const PASSWORD = 'secret';

/** The arguments of ACL SETUSER that docs/servers.md gives as the rights the library needs, for keys that begin with `app:`. */
export function leastRights(): string[] {
  const page = readFileSync(path.join(__dirname, '../../docs/servers.md'), 'utf8');
  const [, rule] = /^ACL SETUSER ([\s\S]*?)```/m.exec(page) ?? [];
  if (!rule) throw new Error('docs/servers.md has no rule that begins with ACL SETUSER');
  return rule.replaceAll('\\\n', ' ').trim().split(/\s+/);
}
