import type { FaultOptions } from '../../lib/testing/index.js';

/**
 * Strikes scripts that are known to the server, as all are after their first call. Not what a new
 * connection asks for its rights by: that names none, and on a Cluster the library opens a new one
 * whenever it has lost one.
 */
export const isScript: FaultOptions = {
  match: ({ name, args }) => name.startsWith('EVALSHA') && args[0]!.length > 0,
};
