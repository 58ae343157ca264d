import type { Operation } from './history.js';
import type { Model } from './linearizability.js';

/**
 * A register: `read` answers its value, null where there is none; `swap [value]` sets it and
 * answers the one before; `compareAndSet [expected, value]` answers `{ swapped, current }`, with
 * the value after it.
 */
export const register: Model<string | null> = {
  initial: null,
  apply(state, { name, args }) {
    const given = args as readonly (string | null)[];
    switch (name) {
      case 'read':
        return { state, result: state };
      case 'swap':
        return { state: given[0]!, result: state };
      case 'compareAndSet': {
        const swapped = state === given[0];
        const current = swapped ? given[1]! : state;
        return { state: current, result: { swapped, current } };
      }
      default:
        throw new Error(`register: no operation ${name}`);
    }
  },
  keyOf: (state) => JSON.stringify(state),
};

/** The bounds of an addition, as its arguments give them. */
export interface Addition {
  readonly by: number;
  readonly min?: number;
  readonly max?: number;
  /** Applies what fits, in place of nothing. */
  readonly clamps?: boolean;
}

/**
 * A counter: `read` answers its value, null before the first addition; `add` answers `{ value,
 * applied, limited }`. An addition that is refused creates no counter.
 */
export const boundedCounter: Model<number | null> = {
  initial: null,
  apply(state, operation) {
    if (operation.name === 'read') return { state, result: state };
    if (operation.name !== 'add') throw new Error(`counter: no operation ${operation.name}`);
    return add(state, operation);
  },
  keyOf: String,
};

function add(state: number | null, { args }: Operation): { state: number | null; result: unknown } {
  const { by, min = -Infinity, max = Infinity, clamps = false } = args as Addition;
  const value = state ?? 0;
  // Only the bound in the direction of the movement is judged; what is beyond it is not pulled
  // back.
  const room = by > 0 ? Math.max(0, max - value) : Math.max(0, value - min);
  const limited = Math.abs(by) > room;
  const fits = by > 0 ? room : 0 - room;
  const applied = limited ? (clamps ? fits : 0) : by;
  const after = value + applied;
  return { state: applied === 0 && limited ? state : after, result: { value: after, applied, limited } };
}
