import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { root } from '../setup/process.mjs';
import { slowSpecs } from './slow-specs.mjs';

const escaped = (path) => path.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');

/**
 * Splits a run of all specs in two that run side by side. Slow specs mostly wait, so more of them
 * run at once than there are cores; the others use the cores meanwhile.
 */
export function pools() {
  const cores = availableParallelism();
  const slow = Object.keys(slowSpecs).filter((path) => existsSync(join(root, path)));
  return [
    [`--maxWorkers=${cores + 1}`, '--runTestsByPath', ...slow],
    [
      `--maxWorkers=${Math.max(2, cores - 1)}`,
      '--testPathIgnorePatterns',
      '/node_modules/',
      ...slow.map((path) => `/${escaped(path)}$`),
    ],
  ];
}
