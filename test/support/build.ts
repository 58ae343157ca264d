import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';

/** A build beside other work takes minutes on a small machine. */
export const BUILD_TIMEOUT_MS = 600_000;

let built: Promise<unknown> | undefined;

/**
 * Builds library and shop unless they are built from these sources; one process at a time, once per
 * spec file.
 */
export function build(): Promise<unknown> {
  built ??= promisify(execFile)(process.execPath, [resolve('scripts/build.mjs')]);
  return built;
}
