/** What INFO says of a server. */
export interface ServerInfo {
  /** `Redis`, `Valkey` or `Dragonfly`. */
  readonly product: string;
  readonly version: string;
  /** By which it deletes keys when its memory is full; undefined where it never does. */
  readonly evictionPolicy: string | undefined;
}

export function parseServerInfo(info: string): ServerInfo {
  const field = (name: string): string | undefined => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
  const [product, version] = (
    [
      ['Valkey', field('valkey_version')],
      ['Dragonfly', field('dragonfly_version')?.replace('df-v', '')],
    ] as const
  ).find(([, found]) => found) ?? ['Redis', field('redis_version')];
  const policy = field('maxmemory_policy');
  const evicts = policy !== undefined && policy !== 'noeviction' && Number(field('maxmemory')) > 0;
  return { product, version: version ?? 'unknown', evictionPolicy: evicts ? policy : undefined };
}
