/**
 * Numbers from 0 to below 1 that a seed repeats: mulberry32. What is done follows from the seed,
 * when it happens does not.
 */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const integerBetween = (random: () => number, least: number, most: number): number =>
  least + Math.floor(random() * (most - least + 1));

export function shuffled<T>(random: () => number, items: readonly T[]): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = integerBetween(random, 0, i);
    [result[i], result[j]] = [result[j]!, result[i]!];
  }
  return result;
}
