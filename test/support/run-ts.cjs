/* oxlint-disable no-underscore-dangle -- Node has no public hook for require() */
/** `node run-ts.cjs FILE.ts …` runs this project's TypeScript as Jest does: the same compiler options and module names. */
const { readFileSync } = require('node:fs');
const Module = require('node:module');
const { dirname, resolve } = require('node:path');
const { transformSync } = require('@swc/core');
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
  const source = readFileSync(filename, 'utf8');
  const { code } = transformSync(source, { ...swcOptions, filename, cwd: dirname(filename), swcrc: false });
  module._compile(code, filename);
};

process.setSourceMapsEnabled(true);

process.argv.splice(1, 1);
require(process.argv[1]);
