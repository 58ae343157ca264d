import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { output, run, runAsMain, ScriptError } from './setup/process.mjs';
import { serversDirectory } from './setup/servers.mjs';

/**
 * Unpacks servers of newer Debian suites beside the system's own, without installing them, each as
 * one program that takes redis-server's arguments. They bring their own libc. Needs apt, dpkg and a
 * Debian source.
 */
const LIBRARIES = [
  ...['libatomic1', 'libc6', 'libcap2', 'libgcc-s1', 'libjemalloc2', 'liblzf1'],
  ...['libssl3t64', 'libstdc++6', 'libsystemd0', 'libzstd1', 'zlib1g'],
];
const SERVERS = [
  { name: 'redis-8', suite: 'trixie', program: 'redis' },
  { name: 'valkey-8', suite: 'trixie', program: 'valkey' },
  { name: 'valkey-9', suite: 'sid', program: 'valkey' },
];

const usage = `Usage: npm run servers [-- SERVER…]
  Unpacks servers of newer Debian suites, without installing them.
  SERVER  ${SERVERS.map(({ name }) => name).join(', ')}; all of them by default`;

await runAsMain(import.meta.url, usage, async () => {
  const names = process.argv.slice(2);
  const unknown = names.find((name) => !SERVERS.some((server) => server.name === name));
  if (unknown)
    throw new ScriptError(`Unknown server ${unknown}: ${SERVERS.map(({ name }) => name).join(', ')}`);
  const directory = resolve(serversDirectory());
  for (const server of SERVERS)
    if (names.length === 0 || names.includes(server.name)) await unpack(directory, server);
});

async function unpack(directory, { name, suite, program }) {
  const file = join(directory, name);
  if (!existsSync(file)) {
    const contents = join(directory, `.${name}`);
    const debs = join(contents, 'debs');
    rmSync(contents, { recursive: true, force: true });
    mkdirSync(debs, { recursive: true });
    const apt = aptOptions(join(directory, `.apt-${suite}`), suite);
    await run('apt-get', [...apt, '-qq', 'update']);
    await run('apt-get', [...apt, '-qq', 'download', `${program}-tools`, ...LIBRARIES], { cwd: debs });
    for (const deb of readdirSync(debs)) await run('dpkg', ['-x', join(debs, deb), contents]);
    rmSync(debs, { recursive: true });
    writeFileSync(file, launcher(contents, program));
    chmodSync(file, 0o755);
  }
  console.log(`${file}: ${output(file, ['--version']) ?? 'does not run here'}`);
}

/** apt with lists and a cache of its own, so that the system's are left alone. */
function aptOptions(directory, suite) {
  for (const folder of ['lists/partial', 'cache/archives/partial', 'empty'])
    mkdirSync(join(directory, folder), { recursive: true });
  const sources = join(directory, 'sources.list');
  writeFileSync(
    sources,
    `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror()} ${suite} main\n`,
  );
  const options = {
    'Dir::Etc::SourceList': sources,
    'Dir::Etc::SourceParts': join(directory, 'empty'),
    'Dir::Etc::Preferences': join(directory, 'none'),
    'Dir::Etc::PreferencesParts': join(directory, 'empty'),
    'Dir::State::Lists': join(directory, 'lists'),
    'Dir::Cache': join(directory, 'cache'),
    'APT::Sandbox::User': 'root',
    'APT::Default-Release': '',
    'Debug::NoLocking': '1',
  };
  return Object.entries(options).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
}

function mirror() {
  const files = ['/etc/apt/sources.list.d/debian.sources', '/etc/apt/sources.list'].filter(existsSync);
  for (const line of files.flatMap((file) => readFileSync(file, 'utf8').split('\n'))) {
    const [, url] = /^(?:URIs:|deb(?: \[.*?\])?)\s+(\S+)/.exec(line) ?? [];
    if (url && !url.includes('security')) return url;
  }
  throw new ScriptError('No Debian source found in /etc/apt: servers can be unpacked on Debian only');
}

/**
 * Debian ships the server under the name of its check tool as well; the name it is called by picks
 * the role.
 */
function launcher(contents, program) {
  const files = readdirSync(contents, { recursive: true });
  const loader = files.find((file) => /(^|\/)ld-linux-(x86-64|aarch64)\.so\.\d$/.test(file));
  const libraries = files.find((file) => /^usr\/lib\/[^/]*-linux-gnu[^/]*$/.test(file));
  const quoted = (path) => `"${join(contents, path)}"`;
  return `#!/bin/sh
exec ${quoted(loader)} --argv0 ${program}-server --library-path ${quoted(libraries)} ${quoted(`usr/bin/${program}-check-rdb`)} "$@"
`;
}
