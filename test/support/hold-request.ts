import type { FaultOptions, FaultProxy } from '../../lib/testing/index.js';

/**
 * Does `meanwhile` while the proxy holds the next request that matches, and all else: however long
 * it takes, Redis gets the request after it. What `meanwhile` asks of Redis goes past the proxy.
 */
export async function holdRequest<T>(
  proxy: FaultProxy,
  { match }: FaultOptions,
  meanwhile: () => Promise<T>,
): Promise<T> {
  await proxy.delay({ match }).triggered;
  proxy.pause();
  try {
    return await meanwhile();
  } finally {
    proxy.resume();
  }
}
