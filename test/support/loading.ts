import { Redis } from 'ioredis';
import { waitFor } from './wait-for.js';

/**
 * Makes a server load its data for as long as a test wants. It needs `--enable-debug-command yes`.
 */
export function loadingOf(url: () => string) {
  let client: Redis | undefined;
  let reloading: Promise<unknown> | undefined;
  const startLoading = async (): Promise<void> => {
    const admin = (client = new Redis(url()));
    await admin.mset(...Array.from({ length: 10_000 }, (_, i) => [`ballast:${i}`, 'x'.repeat(100)]).flat());
    await admin.config('SET', 'loading-process-events-interval-bytes', '1024');
    await admin.config('SET', 'key-load-delay', '1000');
    const loader = new Redis(url());
    reloading = loader.debug('RELOAD').finally(() => loader.disconnect());
    const isLoading = (): Promise<boolean> =>
      admin.ping().then(
        () => false,
        (error: Error) => error.message.startsWith('LOADING'),
      );
    await waitFor('the server to load', isLoading);
  };
  const endLoading = async (): Promise<void> => {
    await client?.config('SET', 'key-load-delay', '0');
    await reloading;
    client?.disconnect();
  };
  return { startLoading, endLoading };
}
