import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { isClient, type ConnectionOption } from './client.js';

const EXPECTED = 'a URL, ioredis options, { nodes, options } or an ioredis client';

/**
 * Options by which other clients name a server. ioredis ignores them, and connects to localhost.
 */
const OF_OTHERS = [
  'url',
  'uri',
  'connectionString',
  'socket',
  'hostname',
  'address',
  'server',
  'servers',
  'cluster',
];

/**
 * Refuses options that ioredis would take for localhost although another server was meant: most
 * often an environment variable is not set.
 *
 * @throws InvalidArgumentError, which never shows a password
 */
export function checkConnectionOption(connection: unknown): asserts connection is ConnectionOption {
  if (typeof connection === 'string') return checkUrl(connection);
  if (typeof connection !== 'object' || connection === null || Array.isArray(connection))
    throw new InvalidArgumentError('forRoot.connection', EXPECTED, connection);
  if (isClient(connection)) return;
  if ('nodes' in connection) return checkNodes(connection);
  checkConnectionOptions(connection as Readonly<Record<string, unknown>>);
}

function checkNodes(connection: { nodes: unknown; options?: unknown }): void {
  const { nodes, options: _, ...unknown } = connection;
  if (!Array.isArray(nodes) || nodes.length === 0)
    throw new InvalidArgumentError('forRoot.connection.nodes', 'a non-empty array', nodes);
  const [stray] = Object.keys(unknown);
  if (stray)
    throw new InvalidArgumentError(
      `forRoot.connection.${stray}`,
      'inside connection.options, beside the nodes',
      // Its name says enough, and it may be a password.
      Array.isArray(unknown[stray as never]) ? [] : {},
    );
  for (const [i, node] of (nodes as unknown[]).entries()) {
    const path = `forRoot.connection.nodes[${i}]`;
    if (typeof node === 'string') checkNodeText(path, node);
    else if (typeof node === 'object' && node !== null)
      checkPlace(path, node as Record<string, unknown>, 'a node');
    else if (typeof node !== 'number') throw new InvalidArgumentError(path, '{ host, port } or a URL', node);
  }
}

function checkNodeText(path: string, node: string): void {
  if (node.trim() === '') throw new InvalidArgumentError(path, '{ host, port } or a URL', node);
}

function checkConnectionOptions(options: Readonly<Record<string, unknown>>): void {
  const { sentinels, name, db } = options;
  if (db !== undefined && db !== null && !isDatabase(db))
    throw new InvalidArgumentError('forRoot.connection.db', 'the number of a database', db);
  for (const other of OF_OTHERS) {
    if (options[other] === undefined) continue;
    throw new InvalidArgumentError(
      `forRoot.connection.${other}`,
      'absent: ioredis has no such option; pass the URL itself, or host and port',
      typeof options[other] === 'string' ? hidden(options[other]) : options[other],
    );
  }
  if (sentinels !== undefined && sentinels !== null) {
    if (!Array.isArray(sentinels) || sentinels.length === 0)
      throw new InvalidArgumentError('forRoot.connection.sentinels', 'a non-empty array', sentinels);
    if (typeof name !== 'string' || name === '')
      throw new InvalidArgumentError('forRoot.connection.name', 'the name of the Sentinel group', name);
    return;
  }
  if ('path' in options && options['path'] !== undefined && options['path'] !== null) {
    if (typeof options['path'] !== 'string' || options['path'] === '')
      throw new InvalidArgumentError('forRoot.connection.path', 'the path of a Unix socket', options['path']);
    return;
  }
  checkPlace('forRoot.connection', options, 'an object');
}

/** Refuses an empty host, and options that name no server. */
function checkPlace(path: string, options: Readonly<Record<string, unknown>>, what: string): void {
  const { host, port } = options;
  if ('host' in options && (typeof host !== 'string' || host.trim() === ''))
    throw new InvalidArgumentError(`${path}.host`, 'the name or address of a server', host);
  if ('port' in options && !(isPort(port) || (port === undefined && host !== undefined)))
    throw new InvalidArgumentError(`${path}.port`, 'an integer from 1 to 65535', port);
  if (host === undefined && port === undefined)
    throw new InvalidArgumentError(
      path,
      `${what} that names a server: host, port, path or sentinels`,
      options,
    );
}

const isDatabase = (db: unknown): boolean =>
  typeof db === 'string' ? /^\d+$/.test(db) : Number.isSafeInteger(db) && (db as number) >= 0;

const isPort = (port: unknown): boolean => {
  const number = typeof port === 'string' && /^\d+$/.test(port) ? Number(port) : port;
  return Number.isInteger(number) && (number as number) > 0 && (number as number) < 65_536;
};

function checkUrl(text: string): void {
  const refuse = (expected: string): never => {
    throw new InvalidArgumentError('forRoot.connection', expected, hidden(text));
  };
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return refuse('a URL such as redis://localhost:6379, with user name and password percent-encoded');
  }
  // ioredis compares the scheme with its case: REDISS:// would connect without TLS.
  if (!/^rediss?:\/\//.test(text)) refuse('a URL that begins with redis:// or rediss://');
  if (url.hostname === '') refuse('a URL that names a host; for a Unix socket pass { path }');
  if (!/^\/?\d*$/.test(url.pathname)) refuse('a URL whose path is the number of a database');
  try {
    for (const part of [url.username, url.password]) decodeURIComponent(part);
  } catch {
    refuse('a URL whose user name and password are percent-encoded (a % stands as %25)');
  }
}

/**
 * Returns a URL as messages may show it. A password may stand anywhere in one that is not
 * well-formed, and in the query of any other.
 */
function hidden(text: string): string {
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(text)?.[0];
  if (scheme) return `${scheme}…`;
  return text === '' ? '' : `a text of ${text.length} characters`;
}
