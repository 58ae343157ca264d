import { AtomicRedisError, TransferService } from '../../lib/index.js';
import { startApp } from '../support/app.js';
import { worker } from '../support/worker.js';

export interface TransferJob {
  url: string;
  accounts: string[];
  log: string;
  calls: number;
  callers: number;
  /** In front of each transfer's reference, `<name>-<number>x<legs>`. */
  name: string;
}

/** The outcome of one transfer: `moved`, or the code and the outcome of its error. */
export interface TransferOutcome {
  reference: string;
  became: string;
}

const below = (n: number): number => Math.floor(Math.random() * n);

/**
 * Moves random amounts between random accounts, some in two legs, and tells what became of each.
 */
worker<TransferJob>(async ({ data, send }) => {
  const { url, accounts, log, calls, callers, name } = data;
  const app = await startApp({ connection: url, timeoutMs: 20_000 });
  const transfers = app.get(TransferService);

  const leg = () => {
    const from = below(accounts.length);
    const to = (from + 1 + below(accounts.length - 1)) % accounts.length;
    return { from: accounts[from]!, to: accounts[to]!, amount: 1 + below(20) };
  };
  let next = 0;
  const call = async (): Promise<void> => {
    const legs = Math.random() < 0.3 ? [leg(), leg()] : [leg()];
    const reference = `${name}-${next++}x${legs.length}`;
    const became = await transfers.transferAll(legs, { audit: { log, reference } }).then(
      () => 'moved',
      (error: unknown) => {
        if (error instanceof AtomicRedisError) return `${error.code} ${error.outcome}`;
        throw error;
      },
    );
    send({ reference, became } satisfies TransferOutcome);
  };
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (next < calls) await call();
    }),
  );
  await app.close();
});
