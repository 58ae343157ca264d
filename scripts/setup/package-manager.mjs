import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { output, run, ScriptError } from './process.mjs';
import { isNewEnough, which } from './redis-binary.mjs';

const PRODUCTS = { redis: 'Redis server', rabbitmq: 'RabbitMQ' };

const managers = [
  {
    command: 'apt-get',
    needsRoot: true,
    install: {
      redis: installRedisWithApt,
      curl: (asRoot) => updateAndInstallWithApt(asRoot, 'curl'),
      chromium: (asRoot) => updateAndInstallWithApt(asRoot, 'chromium'),
      rabbitmq: installRabbitWithApt,
    },
  },
  {
    command: 'apk',
    needsRoot: true,
    install: each((asRoot, name) => run(...asRoot('apk', ['add', '--no-cache', name]))),
  },
  {
    command: 'dnf',
    needsRoot: true,
    install: {
      redis: installRedisWithDnf,
      curl: (asRoot) => installWithDnf(asRoot, 'curl'),
      chromium: (asRoot) => installWithDnf(asRoot, 'chromium'),
      rabbitmq: (asRoot) => installWithDnf(asRoot, 'rabbitmq-server'),
    },
  },
  { command: 'brew', needsRoot: false, install: each((_, name) => run('brew', ['install', name])) },
];

/**
 * Installs `redis` (a server), `curl`, `chromium` or `rabbitmq` (a server) with the first package
 * manager that runs without asking. Returns why each other one could not.
 */
export async function installPackage(what) {
  const obstacles = [];
  for (const { command, needsRoot, install } of managers) {
    if (!which(command)) continue;
    const isRoot = process.getuid?.() === 0;
    if (needsRoot && !isRoot && output('sudo', ['-n', 'true']) === null) {
      obstacles.push(`${command} is here, but it needs root, and sudo is missing or asks for a password.`);
    } else if (!needsRoot && isRoot) {
      obstacles.push(`${command} is here, but it does not run as root.`);
    } else {
      console.error(`No ${PRODUCTS[what] ?? what} found: installing one with ${command} …`);
      const asRoot = (program, args) => (isRoot ? [program, args] : ['sudo', ['-n', program, ...args]]);
      const obstacle = await attempt(() => install[what](asRoot));
      if (!obstacle) return obstacles;
      obstacles.push(obstacle);
    }
  }
  return obstacles;
}

function each(install) {
  const names = ['redis', 'curl', 'chromium', 'rabbitmq'];
  return Object.fromEntries(names.map((name) => [name, (asRoot) => install(asRoot, name)]));
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

const aptOptions = ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Dpkg::Use-Pty=0', '-qq'];

function apt(asRoot, args) {
  return run(...asRoot('env', ['DEBIAN_FRONTEND=noninteractive', 'apt-get', ...aptOptions, ...args]));
}

/** Old or partly unreachable lists may still do: the installation decides. */
function updateWithApt(asRoot) {
  return attempt(() => apt(asRoot, ['update']));
}

async function installWithApt(asRoot, name, options = []) {
  await apt(asRoot, [...options, '-y', '--no-install-recommends', 'install', name]);
}

async function updateAndInstallWithApt(asRoot, name) {
  await updateWithApt(asRoot);
  await installWithApt(asRoot, name);
}

async function installRedisWithApt(asRoot) {
  await updateWithApt(asRoot);
  const candidate = /^Version: (?:\d+:)?(\S+)/m.exec(
    output('apt-cache', ['show', '--no-all-versions', 'redis-server']) ?? '',
  );
  if (candidate && !isNewEnough('Redis', candidate[1])) {
    throw new ScriptError(`apt-get offers redis-server ${candidate[1]} only, which is too old.`);
  }
  await installServerWithApt(asRoot, 'redis-server', ['redis']);
}

async function installRabbitWithApt(asRoot) {
  await updateWithApt(asRoot);
  await installServerWithApt(asRoot, 'rabbitmq-server', ['rabbitmq', 'epmd']);
}

/** @param services parts of the names of services that are not started */
async function installServerWithApt(asRoot, name, services) {
  await withoutStartingServices(services, async (path) => {
    await installWithApt(asRoot, name, ['-o', `DPkg::Path=${path}`]);
  });
}

function installWithDnf(asRoot, name) {
  return run(...asRoot('dnf', ['install', '-y', name]));
}

async function installRedisWithDnf(asRoot) {
  // Newer releases have Valkey in Redis's place.
  const obstacle = await attempt(() => installWithDnf(asRoot, 'redis'));
  if (obstacle) await installWithDnf(asRoot, 'valkey');
}

/**
 * Debian's packages start and enable their service. A policy-rc.d would prevent that for the whole
 * system and stay behind when we are killed; so dpkg gets a PATH on which the tools that do it skip
 * these services, and nothing else.
 */
async function withoutStartingServices(services, install) {
  const directory = mkdtempSync(join(tmpdir(), 'no-service-'));
  const pattern = services.map((service) => `*${service}*`).join('|');
  const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  try {
    // dpkg's scripts may run as another user than the one who made the directory.
    chmodSync(directory, 0o755);
    for (const tool of ['invoke-rc.d', 'update-rc.d', 'deb-systemd-invoke', 'deb-systemd-helper']) {
      const script = `#!/bin/sh\ncase "$*" in ${pattern}) exit 0 ;; esac\nPATH=${systemPath}\nexec ${tool} "$@"\n`;
      writeFileSync(join(directory, tool), script, { mode: 0o755 });
    }
    await install(`${directory}:${systemPath}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
