/** No server binary to start: nothing was run. */
export class RedisServerNotFoundError extends Error {
  override readonly name = 'RedisServerNotFoundError';
  readonly code = 'REDIS_SERVER_NOT_FOUND';

  constructor(
    /** Names or paths that were looked for, in order. */
    readonly tried: readonly string[],
  ) {
    super(
      `no Redis server found (looked for ${tried.join(', ')}). Install one (Debian and Ubuntu: ` +
        `apt-get install redis-server; macOS: brew install redis), name its binary in REDIS_SERVER_BINARY, ` +
        `or use a server that is already running by setting REDIS_URL`,
    );
  }
}

/** The server was run and did not become ready. */
export class RedisServerStartError extends Error {
  override readonly name = 'RedisServerStartError';
  readonly code = 'REDIS_SERVER_START_FAILED';

  constructor(
    readonly reason: string,
    readonly binary: string,
    /** The end of what the server printed; empty when it printed nothing. */
    readonly output: string,
    /** The port belongs to another process: another port may work. */
    readonly portTaken: boolean,
  ) {
    super(`${binary} did not start: ${reason}${output === '' ? '' : `\n--- its last output ---\n${output}`}`);
  }
}
