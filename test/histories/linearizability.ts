import { isDeepStrictEqual } from 'node:util';
import type { Operation } from './history.js';

/**
 * A sequential object. Its operations are total: each has an effect, if only none, in every state.
 * States are compared by `keyOf`.
 */
export interface Model<State> {
  readonly initial: State;
  /** The state that an operation leads to, and what it answers there. */
  apply(state: State, operation: Operation): { readonly state: State; readonly result: unknown };
  keyOf(state: State): string;
}

/**
 * A server dies: what it acknowledged from one moment on may be lost, to the moment after which it
 * answered nothing. In microseconds.
 */
export interface LossWindow {
  readonly fromUs: number;
  readonly toUs: number;
  /**
   * When the server was struck: what was answered before was answered by it, and by no successor.
   * Without it, the order of its answers is unknown.
   */
  readonly struckUs?: number;
  /** Tells the keys that the server had. @default all */
  readonly holds?: (key: string) => boolean;
}

/** The losses that may concern a key. */
export const lossesOfKey = (losses: readonly LossWindow[], key: string): readonly LossWindow[] =>
  losses.filter(({ holds }) => holds === undefined || holds(key));

export interface LinearizabilityOptions {
  /**
   * In each of these the object may fall back, once, to an earlier state, but not behind an
   * operation that was answered before the window. Without any, nothing may be lost.
   * @default []
   */
  readonly losses?: readonly LossWindow[];
  /** Configurations that are looked at before it is given up. @default 2_000_000 */
  readonly budget?: number;
}

export interface LinearizabilityVerdict {
  /** `undecided`: the search was given up. */
  readonly verdict: 'linearizable' | 'not-linearizable' | 'undecided';
  readonly operations: number;
  readonly configurations: number;
  /**
   * Present if it is not linearizable: the furthest point of the search, and the candidates there.
   */
  readonly stuck?: {
    readonly placed: number;
    readonly state: string;
    readonly candidates: readonly Operation[];
  };
}

/** An event that must find its place in the order: an operation that was answered, or a loss. */
interface Required {
  readonly operation?: Operation;
  readonly startUs: number;
  readonly endUs: number;
}

/** A point of the search: what has taken effect so far, and the state that it came to. */
interface Point<State> {
  readonly state: State;
  /** All required ones before this one have their place. */
  readonly low: number;
  /** Required ones behind `low` that have theirs, in order. */
  readonly ahead: readonly number[];
  /** Optional ones that have taken effect, in order. */
  readonly taken: readonly number[];
  readonly done: number;
  /** The point before. */
  readonly before?: Point<State>;
  /** When what lies between the two was answered. */
  readonly answeredUs: number;
}

/**
 * Judges whether operations on one object have an order that keeps to real time and in which the
 * model answers each as it was answered.
 *
 * The search is that of J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects" (1993),
 * with the memory of configurations of G. Lowe, "Testing for Linearizability" (2017): a set of
 * operations that have taken effect and a state are looked at once. An operation that was answered
 * `not-applied` never takes effect. One of unknown outcome may at any time after its start, or
 * never: it is optional, and never in the way of another one. Of optional ones that are alike the
 * earliest goes first, since it can stand wherever a later one can. A loss is an operation of its
 * own, which leads back to any state that it may.
 */
export function checkLinearizability<State>(
  history: readonly Operation[],
  model: Model<State>,
  options: LinearizabilityOptions = {},
): LinearizabilityVerdict {
  return new Search(history, model, options).run();
}

class Search<State> {
  private readonly required: readonly Required[];
  private readonly optional: readonly Operation[];
  /** A text for each optional one; equal for those that are alike. */
  private readonly kinds: readonly string[];
  private readonly losses: readonly number[];

  constructor(
    private readonly history: readonly Operation[],
    private readonly model: Model<State>,
    private readonly options: LinearizabilityOptions,
  ) {
    const answered = history.filter(({ outcome }) => outcome === 'ok' || outcome === 'applied');
    const losses = (options.losses ?? []).map(({ fromUs, toUs }) => ({ startUs: fromUs, endUs: toUs }));
    const operations = answered.map((operation) => ({ operation, ...timesOf(operation) }));
    this.required = [...operations, ...losses].toSorted((a, b) => a.startUs - b.startUs);
    this.losses = this.required.flatMap(({ operation }, index) => (operation ? [] : [index]));
    this.optional = history
      .filter(({ outcome }) => outcome === 'unknown')
      .toSorted((a, b) => a.startUs - b.startUs);
    this.kinds = this.optional.map(({ name, args }) => JSON.stringify([name, args]));
  }

  run(): LinearizabilityVerdict {
    const { budget = 2_000_000 } = this.options;
    const seen = new Set<string>();
    const { initial: state } = this.model;
    const start: Point<State> = { state, low: 0, ahead: [], taken: [], done: 0, answeredUs: Infinity };
    const stack = [start];
    let furthest = start;
    const told = (verdict: LinearizabilityVerdict['verdict']) => ({
      verdict,
      operations: this.history.length,
      configurations: seen.size,
    });
    for (let point = stack.pop(); point; point = stack.pop()) {
      if (point.done === this.required.length) return told('linearizable');
      const configuration = this.configurationOf(point);
      if (seen.has(configuration)) continue;
      if (seen.size === budget) return told('undecided');
      seen.add(configuration);
      if (point.done > furthest.done) furthest = point;
      stack.push(...this.nextOf(point));
    }
    const candidates = this.candidatesOf(furthest).candidates.flatMap(
      (index) => this.required[index]!.operation ?? [],
    );
    const stuck = { placed: furthest.done, state: this.model.keyOf(furthest.state), candidates };
    return { ...told('not-linearizable'), stuck };
  }

  /** The likeliest last: it is looked at first. */
  private nextOf(point: Point<State>): Point<State>[] {
    const { candidates, latestUs } = this.candidatesOf(point);
    // The one that was answered first most likely took effect first.
    const inOrder = candidates.toSorted((a, b) => this.required[b]!.endUs - this.required[a]!.endUs);
    return [...this.optionalNext(point, latestUs), ...inOrder.flatMap((index) => this.place(point, index))];
  }

  /** Required ones that may come next: none was answered before it began. */
  private candidatesOf({ low, ahead }: Point<State>): { candidates: number[]; latestUs: number } {
    const candidates: number[] = [];
    let latestUs = Infinity;
    for (let i = low; i < this.required.length && this.required[i]!.startUs <= latestUs; i++) {
      if (ahead.includes(i)) continue;
      candidates.push(i);
      latestUs = Math.min(latestUs, this.required[i]!.endUs);
    }
    return { candidates, latestUs };
  }

  private optionalNext(point: Point<State>, latestUs: number): Point<State>[] {
    const next: Point<State>[] = [];
    const seen = new Set<string>();
    for (const [index, operation] of this.optional.entries()) {
      if (operation.startUs > latestUs) break;
      if (point.taken.includes(index) || seen.has(this.kinds[index]!)) continue;
      seen.add(this.kinds[index]!);
      const { state } = this.model.apply(point.state, operation);
      // Without an effect it may as well never happen.
      if (this.model.keyOf(state) === this.model.keyOf(point.state)) continue;
      const taken = [...point.taken, index].toSorted((a, b) => a - b);
      next.push({ ...point, state, taken, before: point, answeredUs: Infinity });
    }
    return next;
  }

  private place(point: Point<State>, index: number): Point<State>[] {
    const { operation, endUs } = this.required[index]!;
    const ahead = [...point.ahead, index].toSorted((a, b) => a - b);
    let { low } = point;
    while (ahead[0] === low) {
      ahead.shift();
      low++;
    }
    const next = { ...point, low, ahead, done: point.done + 1, before: point };
    if (!operation)
      return this.statesBefore(point, index).map((state) => ({ ...next, state, answeredUs: -Infinity }));
    const { state, result } = this.model.apply(point.state, operation);
    const fits = operation.outcome === 'applied' || isDeepStrictEqual(result, operation.result);
    return fits ? [{ ...next, state, answeredUs: endUs }] : [];
  }

  /** States that a loss may lead back to; the state itself, the likeliest, comes last. */
  private statesBefore(point: Point<State>, loss: number): State[] {
    const { startUs } = this.required[loss]!;
    const states = new Map<string, State>();
    let at: Point<State> | undefined = point;
    for (; at; at = at.answeredUs < startUs ? undefined : at.before)
      states.set(this.model.keyOf(at.state), at.state);
    return [...states.values()].toReversed();
  }

  private configurationOf(point: Point<State>): string {
    const { low, ahead, taken, state } = point;
    const key = `${low}|${ahead.join()}|${taken.join()}|${this.model.keyOf(state)}`;
    const loss = this.losses.find((index) => index >= low && !ahead.includes(index));
    if (loss === undefined) return key;
    // The states that a loss may lead back to make a difference.
    const back = this.statesBefore(point, loss).map((one) => this.model.keyOf(one));
    return `${key}|${back.toSorted().join()}`;
  }
}

const timesOf = ({ startUs, endUs }: Operation) => ({ startUs, endUs });

/**
 * The verdict on each key: what consists of linearizable parts is linearizable (Herlihy and Wing,
 * 1990).
 */
export function checkEachKey<State>(
  history: readonly Operation[],
  model: Model<State>,
  optionsOf: (key: string) => LinearizabilityOptions = () => ({}),
): ReadonlyMap<string, LinearizabilityVerdict> {
  const byKey = new Map<string, Operation[]>();
  for (const operation of history) {
    const { key = '' } = operation;
    const known = byKey.get(key);
    if (known) known.push(operation);
    else byKey.set(key, [operation]);
  }
  return new Map(
    [...byKey].map(([key, operations]) => [key, checkLinearizability(operations, model, optionsOf(key))]),
  );
}
