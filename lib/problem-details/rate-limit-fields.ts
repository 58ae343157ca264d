/** A limit and how it is, for HTTP fields. @inline */
type Policy = {
  /** Names the limit to clients. */
  readonly name: string;
  readonly limit: number;
  readonly perMs: number;
  readonly remaining: number;
  readonly resetMs: number;
};

/** @inline */
export type LimitPolicy = Policy;

/**
 * Returns the fields that tell a client of limits, as draft-ietf-httpapi-ratelimit-headers-10 has
 * them. Times are whole seconds, rounded up.
 * https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
 */
export function rateLimitFields(policies: readonly LimitPolicy[]): readonly [name: string, value: string][] {
  const policy = policies.map(({ name, limit, perMs }) => `"${name}";q=${limit};w=${seconds(perMs)}`);
  const state = policies.map(
    ({ name, remaining, resetMs }) => `"${name}";r=${remaining};t=${seconds(resetMs)}`,
  );
  return [
    ['RateLimit-Policy', policy.join(', ')],
    ['RateLimit', state.join(', ')],
  ];
}

const seconds = (ms: number): number => Math.ceil(ms / 1_000);
