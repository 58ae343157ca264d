import { InvalidArgumentError } from '../../atomic-redis.errors.js';
import { NEVER_REPLAYED, REPLAYED_HEADERS } from './wire-response.js';

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Checks the option `replayHeaders`. @throws InvalidArgumentError */
export function checkReplayHeaders(path: string, value: unknown): void {
  if (!Array.isArray(value)) throw new InvalidArgumentError(path, 'an array of header names', value);
  value.forEach((name: unknown, i) => {
    if (typeof name !== 'string' || !TOKEN.test(name))
      throw new InvalidArgumentError(`${path}[${i}]`, 'the name of a header', name);
    if (NEVER_REPLAYED.has(name.toLowerCase())) {
      throw new InvalidArgumentError(
        `${path}[${i}]`,
        'a header that fits every exchange: cookies, dates, request ids and framing are never replayed',
        name,
      );
    }
  });
}

/** Returns the names of all headers that a route has recorded, in lower case. */
export const recordedHeaders = (...given: (readonly string[] | undefined)[]): readonly string[] => [
  ...new Set([
    ...REPLAYED_HEADERS,
    ...given.flatMap((names) => names ?? []).map((name) => name.toLowerCase()),
  ]),
];
