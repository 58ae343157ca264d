/** A server's part in replication. @inline */
export type ServerRole = NonNullable<ParsedInfo['role']>;

/** A server's kind and version, as INFO reports them. @inline */
type Info = {
  /** `Redis`, `Valkey` or `Dragonfly`. */
  readonly product: string;
  readonly version: string;
  /** The policy by which it deletes keys when its memory is full; undefined if it never does. */
  readonly evictionPolicy: string | undefined;
};

/** @inline */
export type ServerInfo = Info;

/** The facts that the library reads from INFO. */
export interface ParsedInfo extends ServerInfo {
  /** Undefined if the server does not report it. */
  readonly role: 'master' | 'replica' | undefined;
  /** The address of the master, if a replica reports it. */
  readonly masterAddress: string | undefined;
  /** The id of this run of the server process; undefined if the server does not report it. */
  readonly runId: string | undefined;
  readonly isLoading: boolean;
  readonly isClusterNode: boolean;
}

export function parseServerInfo(info: string): ParsedInfo {
  const field = (name: string): string | undefined => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
  const [product, version] = (
    [
      ['Valkey', field('valkey_version')],
      ['Dragonfly', field('dragonfly_version')?.replace('df-v', '')],
    ] as const
  ).find(([, found]) => found) ?? ['Redis', field('redis_version')];
  const policy = field('maxmemory_policy');
  const evicts = policy !== undefined && policy !== 'noeviction' && Number(field('maxmemory')) > 0;
  const role = field('role');
  const host = field('master_host');
  return {
    product,
    version: version ?? 'unknown',
    evictionPolicy: evicts ? policy : undefined,
    role: role === 'master' ? 'master' : role === undefined ? undefined : 'replica',
    masterAddress: host ? `${host}:${field('master_port')}` : undefined,
    runId: field('run_id'),
    isLoading: field('loading') === '1',
    isClusterNode: field('cluster_enabled') === '1',
  };
}
