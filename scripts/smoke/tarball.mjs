import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { outputOfNpm } from '../setup/npm.mjs';
import { root, ScriptError } from '../setup/process.mjs';

const isWanted = [
  /^package\.json$/,
  /^(?:README|CHANGELOG)\.md$/,
  /^LICENSE$/,
  /^docs\/(?:(?:recipes|decisions)\/)?[\w-]+\.md$/,
  /^schematics\/[\w.-]+\.json$/,
  /^dist\/lib\/(?:[\w-]+\/)*[\w.-]+\.(?:js|d\.ts)$/,
];
const largestBytes = 1_000_000;

/**
 * Packs the package as npm would publish it. @returns the tarball's path; throws when it holds what
 * does not belong, or lacks what does
 */
export function pack(directory) {
  const [{ filename, files, size, unpackedSize }] = JSON.parse(
    outputOfNpm(['pack', '--json', '--pack-destination', directory]),
  );
  const paths = files.map(({ path }) => path);
  const problems = [
    ...paths
      .filter((path) => !isWanted.some((pattern) => pattern.test(path)))
      .map((path) => `${path} does not belong there`),
    ...['README.md', 'LICENSE', 'CHANGELOG.md', 'docs/guarantees.md', ...entries()]
      .filter((path) => !paths.includes(path))
      .map((path) => `${path} is missing`),
  ];
  if (size > largestBytes) problems.push(`it has ${size} bytes, more than ${largestBytes}`);
  if (problems.length > 0) throw new ScriptError(`${filename}:\n  - ${problems.join('\n  - ')}`);
  console.log(
    `${filename}: ${paths.length} files, ${kilobytes(size)} packed, ${kilobytes(unpackedSize)} unpacked`,
  );
  return join(directory, filename);
}

/** Every file that package.json names as an entry point. */
function entries() {
  const { exports, main, types, typesVersions } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  );
  const named = JSON.stringify([exports, main, types, typesVersions]).match(/\.\/dist\/[^"]+/g);
  return [...new Set(named)].map((path) => path.slice(2));
}

const kilobytes = (bytes) => `${Math.round(bytes / 1_000)} kB`;
