import { fc } from './property.js';

export const MIN_INT64 = -(2n ** 63n);
export const MAX_INT64 = 2n ** 63n - 1n;

const CORNERS = [
  0n,
  10n ** 10n,
  -(10n ** 10n),
  2n ** 32n,
  2n ** 53n,
  -(2n ** 53n),
  10n ** 18n,
  MIN_INT64,
  MAX_INT64,
];

const nearCorners = fc
  .tuple(fc.constantFrom(...CORNERS), fc.bigInt({ min: -3n, max: 3n }))
  .map(([corner, offset]) => corner + offset)
  .filter((n) => n >= MIN_INT64 && n <= MAX_INT64);

/** Generates integers of 64 bits that gather where carries, signs and limits change. */
export const int64 = fc.oneof(
  nearCorners,
  fc.bigInt({ min: MIN_INT64, max: MAX_INT64 }),
  fc.bigInt({ min: -20n, max: 20n }),
);
