/* oxlint-disable no-underscore-dangle -- Node has no public hook for require() */
/** `node run-ts.cjs FILE.ts …` runs this project's TypeScript as Jest does: the same compiler options and module names. */
const { createHash } = require('node:crypto');
const { mkdirSync, readFileSync, renameSync, writeFileSync } = require('node:fs');
const Module = require('node:module');
const { dirname, join, resolve } = require('node:path');
const { default: jest } = require('../../jest.config.mjs');

const root = resolve(__dirname, '../..');
const [, swcOptions] = Object.values(jest.transform)[0];
const names = Object.entries(jest.moduleNameMapper).map(([from, to]) => [
  new RegExp(from),
  to.replace('<rootDir>', root),
]);

const resolveFilename = Module._resolveFilename;
Module._resolveFilename = function (request, parent, ...rest) {
  // Only in TypeScript do imports of .js mean .ts.
  const mapped = parent?.filename?.endsWith('.ts') && names.find(([from]) => from.test(request));
  return resolveFilename.call(this, mapped ? request.replace(...mapped) : request, parent, ...rest);
};

Module._extensions['.ts'] = (module, filename) => {
  module._compile(compiled(filename), filename);
};

const cache = join(root, 'node_modules/.cache/run-ts');
const compiler = JSON.stringify([require('@swc/core/package.json').version, swcOptions]);

/** Compiles a file, or takes what an earlier process has made of the same text: tests start hundreds of processes. */
function compiled(filename) {
  const source = readFileSync(filename, 'utf8');
  const hash = createHash('sha1').update(compiler).update(filename).update(source).digest('hex');
  const kept = join(cache, hash);
  try {
    return readFileSync(kept, 'utf8');
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  const { transformSync } = require('@swc/core');
  const { code } = transformSync(source, { ...swcOptions, filename, cwd: dirname(filename), swcrc: false });
  mkdirSync(cache, { recursive: true });
  // Written elsewhere first: another process must not read a part of it.
  writeFileSync(`${kept}.${process.pid}`, code);
  renameSync(`${kept}.${process.pid}`, kept);
  return code;
}

process.setSourceMapsEnabled(true);

process.argv.splice(1, 1);
require(process.argv[1]);
