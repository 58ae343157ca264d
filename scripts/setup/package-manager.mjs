import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { output, run, ScriptError } from './process.mjs';
import { isNewEnough, which } from './redis-binary.mjs';

const managers = [
  { command: 'apt-get', needsRoot: true, install: installWithApt },
  {
    command: 'apk',
    needsRoot: true,
    install: (asRoot) => run(...asRoot('apk', ['add', '--no-cache', 'redis'])),
  },
  { command: 'dnf', needsRoot: true, install: installWithDnf },
  { command: 'brew', needsRoot: false, install: () => run('brew', ['install', 'redis']) },
];

/** Installs a Redis server with the first package manager that runs without asking. Returns why each other one could not. */
export async function installRedisServer() {
  const obstacles = [];
  for (const { command, needsRoot, install } of managers) {
    if (!which(command)) continue;
    const isRoot = process.getuid?.() === 0;
    if (needsRoot && !isRoot && output('sudo', ['-n', 'true']) === null) {
      obstacles.push(`${command} is here, but it needs root, and sudo is missing or asks for a password.`);
    } else if (!needsRoot && isRoot) {
      obstacles.push(`${command} is here, but it does not run as root.`);
    } else {
      console.error(`No Redis server found: installing one with ${command} …`);
      const asRoot = (program, args) => (isRoot ? [program, args] : ['sudo', ['-n', program, ...args]]);
      const obstacle = await attempt(() => install(asRoot));
      if (!obstacle) return obstacles;
      obstacles.push(obstacle);
    }
  }
  return obstacles;
}

/** Null, or why the command failed. */
async function attempt(act) {
  try {
    await act();
    return null;
  } catch (error) {
    // Beyond 128 a signal ended it: someone wants to stop.
    if (!(error instanceof ScriptError) || error.exitCode > 128) throw error;
    return error.message;
  }
}

async function installWithApt(asRoot) {
  const environment = ['DEBIAN_FRONTEND=noninteractive'];
  const common = ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Dpkg::Use-Pty=0', '-qq'];
  // Old or partly unreachable lists may still do: the installation decides.
  await attempt(() => run(...asRoot('env', [...environment, 'apt-get', ...common, 'update'])));
  const candidate = /^Version: (?:\d+:)?(\S+)/m.exec(
    output('apt-cache', ['show', '--no-all-versions', 'redis-server']) ?? '',
  );
  if (candidate && !isNewEnough('Redis', candidate[1])) {
    throw new ScriptError(`apt-get offers redis-server ${candidate[1]} only, which is too old.`);
  }
  await withoutStartingServices(async (path) => {
    const options = [...common, '-o', `DPkg::Path=${path}`, '-y', '--no-install-recommends'];
    await run(...asRoot('env', [...environment, 'apt-get', ...options, 'install', 'redis-server']));
  });
}

async function installWithDnf(asRoot) {
  // Newer releases have Valkey in Redis's place.
  const obstacle = await attempt(() => run(...asRoot('dnf', ['install', '-y', 'redis'])));
  if (obstacle) await run(...asRoot('dnf', ['install', '-y', 'valkey']));
}

/**
 * Debian's packages start and enable their service. A policy-rc.d would prevent that for the whole system and stay
 * behind when we are killed; so dpkg gets a PATH on which the tools that do it skip redis, and nothing else.
 */
async function withoutStartingServices(install) {
  const directory = mkdtempSync(join(tmpdir(), 'no-service-'));
  const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  try {
    // dpkg's scripts may run as another user than the one who made the directory.
    chmodSync(directory, 0o755);
    for (const tool of ['invoke-rc.d', 'update-rc.d', 'deb-systemd-invoke', 'deb-systemd-helper']) {
      const script = `#!/bin/sh\ncase "$*" in *redis*) exit 0 ;; esac\nPATH=${systemPath}\nexec ${tool} "$@"\n`;
      writeFileSync(join(directory, tool), script, { mode: 0o755 });
    }
    await install(`${directory}:${systemPath}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
