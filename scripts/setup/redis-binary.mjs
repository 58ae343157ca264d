import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { output, ScriptError } from './process.mjs';

const oldest = { Redis: [7, 0], Valkey: [8, 0] };
const names = ['redis-server', 'valkey-server'];
// Package managers put servers here; a PATH set by an editor or a service may lack them.
const usualDirectories =
  process.platform === 'win32'
    ? []
    : ['/usr/local/bin', '/usr/bin', '/opt/homebrew/bin', '/home/linuxbrew/.linuxbrew/bin'];

/**
 * `{ path }` of a server that is new enough, or `{ rejected }`: what was found instead, one
 * sentence each.
 */
export function findRedisServer() {
  const chosen = process.env.REDIS_SERVER_BINARY;
  if (chosen) {
    const problem = problemOf(chosen);
    if (problem) throw new ScriptError(`REDIS_SERVER_BINARY does not help: ${problem}`);
    return { path: chosen, rejected: [] };
  }
  const rejected = [];
  for (const name of names) {
    for (const path of locate(name)) {
      const problem = problemOf(path);
      if (!problem) return { path, rejected };
      rejected.push(problem);
    }
  }
  return { path: null, rejected };
}

/** The first executable of that name on PATH. */
export function which(name) {
  return onPath(name, pathDirectories())[0] ?? null;
}

/** "7.0.15" of a product we know, or null. */
export function isNewEnough(product, version) {
  const minimum = oldest[product];
  const [major, minor] = version.split('.').map(Number);
  return major > minimum[0] || (major === minimum[0] && minor >= minimum[1]);
}

function locate(name) {
  return onPath(name, [...new Set([...pathDirectories(), ...usualDirectories])]);
}

function pathDirectories() {
  return (process.env.PATH ?? '').split(delimiter).filter(Boolean);
}

function onPath(name, directories) {
  const file = process.platform === 'win32' ? `${name}.exe` : name;
  return directories.map((directory) => join(directory, file)).filter(isExecutable);
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function problemOf(path) {
  const text = output(path, ['--version']);
  if (text === null) return `${path} --version fails.`;
  const [, product, version] = /^(Redis|Valkey) server v=(\d+\.\d+[^\s]*)/i.exec(text) ?? [];
  if (!product) return `${path} is neither Redis nor Valkey: "${text.split('\n', 1)[0]}".`;
  return isNewEnough(product, version) ? null : `${path} is ${product} ${version}, which is too old.`;
}
