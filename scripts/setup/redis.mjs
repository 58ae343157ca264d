import { ScriptError } from './process.mjs';
import { locked } from './lock.mjs';
import { findRedisServer } from './redis-binary.mjs';
import { installPackage } from './package-manager.mjs';

/**
 * The path of a Redis or Valkey server program, installed if need be; null when REDIS_URL names a
 * running one, unless the program is needed all the same.
 */
export async function setUpRedis({ ownServer }) {
  if (process.env.REDIS_URL && !ownServer) return null;
  const { path } = findRedisServer();
  return path ?? locked(findOrInstall);
}

async function findOrInstall() {
  const before = findRedisServer();
  if (before.path) return before.path;
  // A package manager would replace a server that something else here may be running on: that is
  // the owner's choice.
  const obstacles = before.rejected.length > 0 ? [] : await installPackage('redis');
  const after = findRedisServer();
  if (after.path) return after.path;
  throw new ScriptError(advice([...new Set([...after.rejected, ...obstacles])]));
}

function advice(findings) {
  return `No usable Redis server: redis-server 7.0 or later, or valkey-server 8 or later, is needed.
${findings.map((finding) => `  - ${finding.replaceAll('\n', '\n    ')}\n`).join('')}
Install one, then run the same command again:
  Debian, Ubuntu   sudo apt-get install redis-server
  Alpine           apk add redis
  Fedora, RHEL     sudo dnf install valkey
  macOS            brew install redis
  Windows          inside WSL, as for Ubuntu
Or name a server program:    REDIS_SERVER_BINARY=/path/to/redis-server
Or use a server that runs:   REDIS_URL=redis://localhost:6379`;
}
