import { AtomicRedisError, type Outcome, type TransactionService } from '../../lib/index.js';
import { recordOperation } from '../histories/recorder.js';
import { accountKey, ACCOUNTS, AUDIT_KEY, CALM_KEY, formatEntry, type Transfer } from './bank.js';
import { integerBetween } from './random.js';

/** Redis is back well before: no outcome has an excuse to be unknown. */
const TIMEOUT_MS = 30_000;
/** Longest wait of an impatient caller: about the length of a call. */
const PATIENCE_MS = 60;

/** The outcome that a call reported; `unexpected` is an error without a documented meaning. */
export interface CallReport {
  readonly id: string;
  readonly outcome: Outcome | 'unexpected';
  /** Name of the error, or `none`. */
  readonly error: string;
  /** Text of an unexpected error, or of an unknown outcome. */
  readonly details?: string;
}

class InsufficientFunds extends Error {
  override readonly name = 'InsufficientFunds';
}

class OutOfPatience extends Error {
  override readonly name = 'OutOfPatience';
}

/** Makes one call, of a kind and in a manner chosen at random, and tells what it reported. */
export async function makeCall(
  transactions: TransactionService,
  id: string,
  random: () => number,
): Promise<CallReport> {
  const { signal, stop, maxAttempts } = chooseManner(random);
  try {
    const options = { timeoutMs: TIMEOUT_MS, maxAttempts, signal };
    const moved = random() < 0.25 ? undefined : chooseTransfer(random);
    const args = [['append', AUDIT_KEY, id]];
    await recordOperation(
      { name: moved ? 'transfer' : 'note', model: 'list-append', args },
      () => (moved ? transfer(transactions, id, moved, options) : note(transactions, id, options)),
      { resultOf: () => args, isOwn: (error) => isOwn(error, signal) },
    );
    return { id, outcome: 'applied', error: 'none' };
  } catch (error) {
    return report(id, error, signal);
  } finally {
    stop();
  }
}

type Options = NonNullable<Parameters<TransactionService['run']>[2]>;

/**
 * Some callers give up soon and some after a few conflicts, or hardly any call would be reported as
 * not applied.
 */
function chooseManner(random: () => number): Pick<Options, 'signal' | 'maxAttempts'> & { stop: () => void } {
  const dice = random();
  if (dice < 0.1) return { maxAttempts: 2, stop: () => {} };
  if (dice >= 0.2) return { stop: () => {} };
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(new OutOfPatience()), random() * PATIENCE_MS);
  return { signal: patience.signal, stop: () => clearTimeout(timer) };
}

function chooseTransfer(random: () => number): Transfer {
  const from = integerBetween(random, 0, ACCOUNTS - 1);
  const to = (from + integerBetween(random, 1, ACCOUNTS - 1)) % ACCOUNTS;
  return { from, to, amount: integerBetween(random, 1, 20) };
}

async function transfer(transactions: TransactionService, id: string, moved: Transfer, options: Options) {
  const [from, to] = [accountKey(moved.from), accountKey(moved.to)];
  const work: Parameters<TransactionService['run']>[1] = async (tx) => {
    const [fromBalance, toBalance] = (await tx.read.mget(from, to)).map(Number) as [number, number];
    if (fromBalance < moved.amount) throw new InsufficientFunds();
    // Set to what follows from what was read: one that was read too early would take another's
    // transfer back.
    tx.write.set(from, fromBalance - moved.amount);
    tx.write.set(to, toBalance + moved.amount);
    tx.write.rpush(AUDIT_KEY, formatEntry({ id, transfer: moved }));
  };
  await transactions.run([from, to], work, options);
}

/**
 * Nobody changes what this watches, itself neither: nothing but the commit marker can keep a late
 * EXEC from being applied. Busy accounts have long been changed by the time it arrives.
 */
async function note(transactions: TransactionService, id: string, options: Options) {
  await transactions.run([CALM_KEY], (tx) => void tx.write.rpush(AUDIT_KEY, formatEntry({ id })), options);
}

const isOwn = (error: unknown, signal: AbortSignal | undefined): boolean =>
  error instanceof InsufficientFunds || (signal?.aborted === true && error === signal.reason);

function report(id: string, thrown: unknown, signal: AbortSignal | undefined): CallReport {
  const error = thrown as Error;
  if (isOwn(error, signal)) return { id, outcome: 'not-applied', error: error.name };
  const outcome = error instanceof AtomicRedisError ? error.outcome : 'unexpected';
  const details = outcome === 'unknown' || outcome === 'unexpected' ? String(error.stack) : undefined;
  return { id, outcome, error: error.name, ...(details && { details }) };
}
