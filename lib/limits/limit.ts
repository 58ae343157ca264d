import { InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { LimitCostError } from './limit.errors.js';

/**
 * One limit, and the cost of a call. `key`, `algorithm` and `perMs` together name it: calls that
 * agree in these share it.
 */
export interface Limit {
  /**
   * Names the caller or the thing that is limited: `user:42`. It is no key in Redis by itself; the
   * library adds its namespace.
   */
  key: string;
  /**
   * - `gcra`: refills steadily, `limit` in `perMs`, up to `burst`. A generic cell rate algorithm: a
   *   token bucket without rounding.
   * - `fixed`: `limit` in each window of `perMs`. Windows are aligned: they begin at multiples of
   *   `perMs` since 1970 by Redis's clock. Across a border up to twice the limit passes in the
   *   length of one window.
   * - `sliding`: at most `limit` in any window of `perMs`. It counts in ten buckets, so a refusal
   *   may last up to a tenth of `perMs` too long.
   *
   * @default 'gcra'
   */
  algorithm?: 'gcra' | 'fixed' | 'sliding';
  /** The amount that `perMs` lets through. */
  limit: number;
  /** In milliseconds. */
  perMs: number;
  /** Most that can be taken at once after a rest. Only with `gcra`. Default: `limit`. */
  burst?: number;
  /** The amount that the call takes. @default 1 */
  cost?: number;
}

export type LimitAlgorithm = NonNullable<Limit['algorithm']>;

/** The parts of a limit that name it. @inline */
export interface LimitName extends Pick<Limit, 'key' | 'algorithm' | 'perMs'> {}

/** The most limits that one call takes from. */
const MAX_LIMITS = 64;

/** Largest `limit`, `burst` and `cost`: products with a batch size stay exact. */
const MAX_AMOUNT = 1_000_000_000_000;

/** Buckets of a sliding window, beside the one that is being filled. */
export const BUCKETS = 10;

const amount = check.integer(1, MAX_AMOUNT);

const limitChecks = {
  key: check.key,
  algorithm: check.oneOf('gcra', 'fixed', 'sliding'),
  limit: amount,
  perMs: check.milliseconds(),
  burst: amount,
  cost: amount,
} satisfies Record<keyof Limit, check.Check>;

const checkLimit = check.options(limitChecks, 'key', 'limit', 'perMs');
const checkName = check.options(limitChecks, 'key', 'perMs');

/**
 * A limit that was checked, with its amounts as the scripts compute with them: a whole part, and a
 * rest in `modulus`-ths.
 *
 * The numbers of `gcra` are times in microseconds: `limit` requests in `perMs` leave `perMs * 1000
 * / limit` between two, which need not be whole, so rests count in `limit`-ths. The other
 * algorithms keep plain numbers without a rest, and `modulus` is the length of a window (ms) or a
 * bucket (µs).
 */
export interface CheckedLimit {
  readonly key: string;
  readonly algorithm: LimitAlgorithm;
  readonly limit: number;
  readonly perMs: number;
  readonly cost: number;
  readonly modulus: number;
  readonly capacity: number;
  readonly capacityRest: number;
  readonly price: number;
  readonly priceRest: number;
  /** Its amounts for the script: "|<kind>,<modulus>,<capacity>,<its rest>,<price>,<its rest>". */
  readonly specification: string;
}

/** The letter of each algorithm in scripts and keys. */
export const LETTER: Readonly<Record<LimitAlgorithm, string>> = { gcra: 'g', fixed: 'f', sliding: 's' };

/** A limit without its key, with the options that it was made of. */
interface Shape extends Omit<CheckedLimit, 'key'> {
  readonly given: Omit<Limit, 'key'>;
}

/** The number of shapes that are remembered. */
const SHAPES = 8;

/** Shapes of late. An application has few, and calls with them on many keys. */
const shapes: Shape[] = [];
let replaced = 0;

/**
 * Returns the shape of a limit that is a plain object, without options that there are not, and as
 * one that was checked before in all but its key.
 */
function knownShape(limit: Limit): Shape | undefined {
  if (typeof limit !== 'object' || limit === null || Object.getPrototypeOf(limit) !== Object.prototype)
    return undefined;
  const { key, algorithm, limit: most, perMs, burst, cost } = limit;
  let options = 3;
  if (algorithm !== undefined) options++;
  if (burst !== undefined) options++;
  if (cost !== undefined) options++;
  if (!check.isText(key) || Object.keys(limit).length !== options) return undefined;
  for (const shape of shapes) {
    const { given } = shape;
    if (
      given.limit === most &&
      given.perMs === perMs &&
      given.algorithm === algorithm &&
      given.cost === cost &&
      given.burst === burst
    )
      return shape;
  }
  return undefined;
}

/** @throws InvalidArgumentError, LimitCostError */
export function checkedLimit(path: string, given: Limit): CheckedLimit {
  let shape = knownShape(given);
  if (!shape) {
    shape = shapeOf(path, given);
    shapes[replaced++ % SHAPES] = shape;
  }
  const { algorithm, limit, perMs, cost, modulus, capacity, capacityRest, price, priceRest, specification } =
    shape;
  return {
    key: given.key,
    algorithm,
    limit,
    perMs,
    cost,
    modulus,
    capacity,
    capacityRest,
    price,
    priceRest,
    specification,
  };
}

/** @throws InvalidArgumentError, LimitCostError */
function shapeOf(path: string, given: Limit): Shape {
  checkLimit(path, given);
  const { key, algorithm = 'gcra', limit, perMs, burst, cost = 1 } = given;
  if (burst !== undefined && algorithm !== 'gcra')
    throw new InvalidArgumentError(`${path}.burst`, "absent: only the algorithm 'gcra' has it", burst);
  const most = burst ?? limit;
  if (cost > most) throw new LimitCostError(key, cost, most);
  const shape = {
    given: { algorithm: given.algorithm, limit, perMs, burst, cost: given.cost },
    algorithm,
    limit,
    perMs,
    cost,
  };
  if (algorithm !== 'gcra') {
    const modulus = algorithm === 'fixed' ? perMs : (perMs * 1_000) / BUCKETS;
    return specified({ ...shape, modulus, capacity: limit, capacityRest: 0, price: cost, priceRest: 0 });
  }
  if ((most / limit) * perMs > check.MAX_TIME_MS)
    throw new InvalidArgumentError(
      `${path}.burst`,
      `no more than refills in ${check.MAX_TIME_MS} ms at ${limit} in ${perMs} ms`,
      most,
    );
  const perUs = perMs * 1_000;
  const [capacity, capacityRest] = most === limit ? [perUs, 0] : divided(most, perUs, limit);
  const [price, priceRest] = divided(cost, perUs, limit);
  return specified({ ...shape, modulus: limit, capacity, capacityRest, price, priceRest });
}

const specified = <L extends Omit<CheckedLimit, 'key' | 'specification'>>(
  limit: L,
): L & { readonly specification: string } => ({
  ...limit,
  specification: `|${LETTER[limit.algorithm]},${limit.modulus},${limit.capacity},${limit.capacityRest},${limit.price},${limit.priceRest}`,
});

/**
 * Checks one limit, or a list of limits that differ in their names.
 * @throws InvalidArgumentError, LimitCostError
 */
export function checkedLimits(limits: readonly Limit[]): CheckedLimit[] {
  if (limits.length === 0 || limits.length > MAX_LIMITS)
    throw new InvalidArgumentError('limits', `one limit, or an array of 1 to ${MAX_LIMITS} limits`, limits);
  const seen = new Set<string>();
  return Array.from(limits, (limit, i) => {
    const checked = checkedLimit(`limits[${i}]`, limit);
    const name = `${LETTER[checked.algorithm]}${checked.perMs}:${checked.key}`;
    if (seen.has(name))
      throw new InvalidArgumentError(
        `limits[${i}]`,
        'another limit than those before it: key, algorithm or perMs must differ',
        limit,
      );
    seen.add(name);
    return checked;
  });
}

/** @throws InvalidArgumentError */
export function checkedName(given: LimitName): Required<LimitName> {
  checkName('limit', given);
  const { key, algorithm = 'gcra', perMs } = given;
  return { key, algorithm, perMs };
}

/**
 * Returns the limit with the price of another cost, which may be 0, or more than the limit lets
 * through at once.
 * @throws InvalidArgumentError
 */
export function priced(path: string, limit: CheckedLimit, cost: number): CheckedLimit {
  check.integer(0, MAX_AMOUNT)(path, cost);
  if (limit.algorithm !== 'gcra') return specified({ ...limit, cost, price: cost });
  if ((cost / limit.limit) * limit.perMs > check.MAX_TIME_MS)
    throw new InvalidArgumentError(path, `no more than refills in ${check.MAX_TIME_MS} ms`, cost);
  const [price, priceRest] = divided(cost, limit.perMs * 1_000, limit.limit);
  return specified({ ...limit, cost, price, priceRest });
}

/** Returns `times * perUs / limit`, exactly. */
function divided(times: number, perUs: number, limit: number): [whole: number, rest: number] {
  const product = times * perUs;
  if (Number.isSafeInteger(product)) return [Math.floor(product / limit), product % limit];
  const exact = BigInt(times) * BigInt(perUs);
  return [Number(exact / BigInt(limit)), Number(exact % BigInt(limit))];
}
