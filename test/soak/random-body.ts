import { setTimeout as sleep } from 'node:timers/promises';
import { AtomicRedisError, type Transaction, type TransactionService } from '../../lib/index.js';
import { beginOperation } from '../histories/recorder.js';
import { integerBetween, shuffled } from './random.js';

/** One more token at the end of a key's chain. */
export interface Link {
  readonly key: string;
  readonly token: string;
}

/** The attempts of a transaction, and the answer to its caller. */
export interface ChainReport {
  /** The links that each attempt meant to apply. */
  readonly attempts: readonly (readonly Link[])[];
  readonly told: 'applied' | 'not-applied' | 'unknown';
  readonly error?: string;
  /** Why, of an unknown outcome. */
  readonly details?: string;
}

/** Few enough for callers to meet, and to be committed together. */
const KEYS = Array.from({ length: 12 }, (_, i) => `key:${i}`);
const chainOf = (key: string): string => `chain:${key}`;

export const soakedKeys = KEYS;
export const soakedChain = chainOf;

/** Time-out of separate transactions inside another one. */
const OWN_TIMEOUT_MS = 5_000;

class Refused extends Error {}

interface Body {
  readonly transactions: TransactionService;
  readonly random: () => number;
  readonly reports: ChainReport[];
  readonly id: string;
}

/**
 * Runs one transaction, made up at random, and adds what became of it, and of those of their own
 * inside of it, to the reports.
 */
export async function runRandomBody(body: Body): Promise<void> {
  const { transactions, random, reports } = body;
  const [key, ...others] = shuffled(random, KEYS) as [string, ...string[]];
  const chance = (probability: number): boolean => random() < probability;
  const isHurried = chance(0.08);
  const timeoutMs = isHurried ? integerBetween(random, 150, 600) : 10_000;
  const isPlain = chance(0.5);
  const attempts: Link[][] = [];
  const abort = chance(0.01) ? new AbortController() : undefined;
  const startedAt = performance.now();
  const work = async (tx: Transaction): Promise<void> => {
    const links: Link[] = [];
    attempts.push(links);
    const name = `${body.id}.${attempts.length}`;
    if (isPlain) {
      await addLink(tx, key, name, links, random);
    } else {
      await addMore({ ...body, tx, key, others: [...others], name, links });
      if (isHurried) await endCloseTo(startedAt + timeoutMs - integerBetween(random, -3, 70));
    }
    if (abort && chance(0.5)) abort.abort(new Refused('aborted'));
    if (chance(0.03)) throw new Refused('by itself');
  };
  const end = beginOperation({ name: 'transaction', model: 'list-append', args: [] });
  const told = await tell(transactions.run([key], work, { timeoutMs, signal: abort?.signal }), timeoutMs);
  end(ended(told, attempts));
  reports.push({ attempts, ...told });
}

type Told = Pick<ChainReport, 'told' | 'error' | 'details'>;

/** Only the last attempt may have been applied; of the others nothing may ever be seen. */
function ended({ told, error }: Told, attempts: readonly (readonly Link[])[]) {
  const links = told === 'not-applied' ? attempts.flat() : (attempts.at(-1) ?? []);
  const args = links.map(({ key, token }) => ['append', chainOf(key), token]);
  return told === 'applied'
    ? ({ outcome: 'ok', args, result: args } as const)
    : ({ outcome: told, args, error } as const);
}

async function tell(running: Promise<unknown>, timeoutMs: number): Promise<Told> {
  const startedAt = performance.now();
  try {
    await running;
    return { told: 'applied' };
  } catch (error) {
    if (error instanceof Refused) return { told: 'not-applied', error: 'its own' };
    if (!(error instanceof AtomicRedisError)) throw error;
    const { outcome, code, message, cause } = error;
    const took = `after ${Math.round(performance.now() - startedAt)} of ${timeoutMs} ms`;
    const details = outcome === 'unknown' && `${took}: ${message} (${String(cause)})`;
    return { told: outcome, error: code, ...(details && { details }) };
  }
}

/** Acts like a body that is committed in a group: reads the end of the chain, and adds to it. */
async function addLink(
  tx: Transaction,
  key: string,
  name: string,
  links: Link[],
  random: () => number,
): Promise<void> {
  const last = (await tx.read.get(key)) ?? '';
  const token = `${name}.${key}`;
  links.push({ key, token });
  tx.write.set(key, token);
  const link = `${last}>${token}`;
  // The caller may reuse its arguments.
  if (random() < 0.5) {
    const bytes = Buffer.from(link);
    tx.write.rpush(chainOf(key), bytes);
    bytes.fill('x');
  } else {
    const items = [link];
    tx.write.rpush(chainOf(key), items as never);
    items[0] = 'changed';
    items.push('more');
  }
}

interface Part extends Body {
  readonly tx: Transaction;
  readonly key: string;
  readonly others: string[];
  readonly name: string;
  readonly links: Link[];
}

async function addMore(part: Part): Promise<void> {
  const { tx, key, others, name, links, random } = part;
  const chance = (probability: number): boolean => random() < probability;
  // Side by side, some for nothing.
  if (chance(0.3)) void tx.read.strlen(key);
  if (chance(0.2)) void tx.read.get('nothing').then(Number);
  const looks = chance(0.3) ? [tx.read.llen(chainOf(key)), tx.read.exists('nothing')] : [];
  if (chance(0.1)) await sleep(integerBetween(random, 1, 30));
  await addLink(tx, key, name, links, random);
  await Promise.all(looks);
  const joining = Array.from({ length: chance(0.4) ? integerBetween(random, 1, 3) : 0 }, () =>
    join({ ...part, key: others.pop()! }),
  );
  if (chance(0.5)) await Promise.allSettled(joining);
  // The others are waited for all the same.
  if (chance(0.1)) await ownInside({ ...part, key: others.pop()! });
  if (chance(0.003)) {
    const until = performance.now() + integerBetween(random, 20, 120);
    while (performance.now() < until);
  }
}

/** Becomes a part of the transaction around it, or fails by itself. */
async function join({ transactions, key, name, links, random }: Part): Promise<void> {
  const fails = random() < 0.3;
  const pauses = random() < 0.3 ? integerBetween(random, 1, 10) : 0;
  const own: Link[] = [];
  const joining = transactions.run([key], async (tx) => {
    await addLink(tx, key, `${name}.joined`, own, random);
    if (pauses > 0) await sleep(pauses);
    await tx.read.exists('nothing');
    if (fails) throw new Refused('joined');
  });
  // A failed transaction has no link.
  await joining.then(
    () => void links.push(...own),
    () => undefined,
  );
}

/** Is committed by itself, in each attempt of the one around it. */
async function ownInside({ transactions, key, name, random, reports }: Part): Promise<void> {
  const attempts: Link[][] = [];
  const end = beginOperation({ name: 'transaction', model: 'list-append', args: [] });
  const running = transactions.run(
    [key],
    async (tx) => {
      const links: Link[] = [];
      attempts.push(links);
      await addLink(tx, key, `${name}.own${attempts.length}`, links, random);
    },
    { propagation: 'new', timeoutMs: OWN_TIMEOUT_MS },
  );
  const told = await tell(running, OWN_TIMEOUT_MS);
  end(ended(told, attempts));
  reports.push({ attempts, ...told });
}

async function endCloseTo(at: number): Promise<void> {
  const waitMs = at - performance.now() - 3;
  if (waitMs > 0) await sleep(waitMs);
  while (performance.now() < at) await new Promise((resolve) => setImmediate(resolve));
}
