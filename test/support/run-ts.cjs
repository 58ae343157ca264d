/* oxlint-disable no-underscore-dangle -- Node has no public hook for require() */
/**
 * `node run-ts.cjs FILE.ts …` runs this project's TypeScript as Jest does: the same compiler
 * options and module names.
 */
const { createHash } = require('node:crypto');
const { mkdirSync, readFileSync, renameSync, writeFileSync } = require('node:fs');
const Module = require('node:module');
const { dirname, join, resolve } = require('node:path');
const { default: jest } = require('../../jest.config.mjs');

const root = resolve(__dirname, '../..');
const [, swcOptions] = Object.values(jest.transform)[0];
const options = { ...swcOptions, sourceMaps: true, swcrc: false };
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

const untouched = new RegExp(jest.transformIgnorePatterns.join('|'));
const loadJs = Module._extensions['.js'];
Module._extensions['.js'] = (module, filename) => {
  if (untouched.test(filename)) loadJs(module, filename);
  else module._compile(compiled(filename), filename);
};

const cache = join(root, 'node_modules/.cache/run-ts');
/** Files of source maps, by the file that was compiled. */
const maps = new Map();
const compiler = JSON.stringify([require('@swc/core/package.json').version, options]);

/**
 * Compiles a file, or takes what an earlier process has made of the same text: tests start hundreds
 * of processes.
 */
function compiled(filename) {
  const source = readFileSync(filename, 'utf8');
  const hash = createHash('sha1').update(compiler).update(filename).update(source).digest('hex');
  const kept = join(cache, hash);
  maps.set(filename, `${kept}.map`);
  try {
    return readFileSync(kept, 'utf8');
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  const { transformSync } = require('@swc/core');
  const { code, map } = transformSync(source, { ...options, filename, cwd: dirname(filename) });
  mkdirSync(cache, { recursive: true });
  keep(`${kept}.map`, map);
  keep(kept, code);
  return code;
}

/** Writes elsewhere first: another process must not read a part of it. */
function keep(file, text) {
  writeFileSync(`${file}.${process.pid}`, text);
  renameSync(`${file}.${process.pid}`, file);
}

/**
 * Names the lines of the TypeScript files in stacks. Node can do so too, but then reads the map of
 * each file, which is a quarter of the time that a process takes to start; most print no stack.
 */
Error.prepareStackTrace = (error, frames) =>
  [Error.prototype.toString.call(error), ...frames.map(inTypeScript)].join('\n    at ');

function inTypeScript(frame) {
  const kept = maps.get(frame.getFileName());
  if (!kept) return String(frame);
  const map = new Module.SourceMap(JSON.parse(readFileSync(kept, 'utf8')));
  const { originalLine, originalColumn } = map.findEntry(
    frame.getLineNumber() - 1,
    frame.getColumnNumber() - 1,
  );
  return String(frame).replace(/:\d+:\d+(?=\)?$)/, `:${originalLine + 1}:${originalColumn + 1}`);
}

process.argv.splice(1, 1);
require(process.argv[1]);
