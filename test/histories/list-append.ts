import { findCycles, type Edge } from './cycles.js';
import type { Operation } from './history.js';
import { lossesOfKey, type LossWindow } from './linearizability.js';

/** A step of a transaction: it appends a value to the list of a key, or reads the list. */
export type Step = readonly ['append', string, string] | readonly ['read', string, (readonly string[])?];

export interface ListAppendOptions {
  /**
   * Transactions that were answered in one of these may be lost, each as a whole, and with it those
   * that follow from it. Without any, nothing may be lost.
   * @default []
   */
  readonly losses?: readonly LossWindow[];
}

/** Something that no serial order of the transactions can explain. */
export interface Anomaly {
  /** Named as by Elle: `G0`, `G1a`, …, with `-realtime` if only real time contradicts it. */
  readonly kind: string;
  readonly about: string;
}

export interface ListAppendVerdict {
  readonly transactions: number;
  readonly lists: number;
  /** Dependencies by data: what a transaction overwrote, read or missed of another's. */
  readonly dependencies: number;
  /** Pairs of transactions of which one had been answered before the other began. */
  readonly realTime: number;
  /** Transactions whose appends were lost in a window of loss. */
  readonly lost: number;
  readonly anomalies: readonly Anomaly[];
}

/** A list as a transaction found it, without what the transaction itself had appended. */
interface Read {
  readonly reader: Operation;
  readonly key: string;
  readonly values: readonly string[];
}

interface Append {
  readonly appender: Operation;
  readonly key: string;
  readonly value: string;
}

/** The known facts about one list. */
interface List {
  /** In the order in which they were appended. */
  readonly values: readonly string[];
  /** When the last read began. */
  readonly readUs: number;
}

/**
 * Judges transactions that append unique values to lists and read them, by what they saw of each
 * other. The arguments of a transaction are its steps; its result, where it is known, is the same
 * steps with what was read. The last reads of a history should show every list.
 *
 * It is done as in K. Kingsbury and P. Alvaro, "Elle: Inferring Isolation Anomalies from
 * Experimental Observations" (2020): a list shows in which order it was appended to, so the
 * dependencies of transactions on each other are known, and a cycle of them is an anomaly with a
 * name from A. Adya, "Weak Consistency" (1999). Edges from a transaction that had been answered to
 * those that began later make it strict serializability.
 */
export function checkListAppend(
  history: readonly Operation[],
  options: ListAppendOptions = {},
): ListAppendVerdict {
  return new Judgement(history, options.losses ?? []).run();
}

class Judgement {
  private readonly anomalies: Anomaly[] = [];
  private readonly reads: Read[] = [];
  private readonly appends: Append[] = [];
  /** By key and value. */
  private readonly appendOf = new Map<string, Append>();
  private readonly appendsOf = new Map<Operation, Append[]>();
  private readonly lists: ReadonlyMap<string, List>;
  private readonly lost = new Set<Operation>();
  /** Known, or seen, to have taken effect. */
  private readonly committed: ReadonlySet<Operation>;

  constructor(
    private readonly history: readonly Operation[],
    private readonly losses: readonly LossWindow[],
  ) {
    for (const operation of history) this.addSteps(operation);
    this.lists = this.inferLists();
    this.committed = this.inferCommitted();
  }

  run(): ListAppendVerdict {
    this.checkLists();
    for (const operation of this.history) this.checkKept(operation);
    for (const read of this.reads) this.checkRead(read);
    for (const loss of this.losses) this.checkSuffix(loss);
    const dependencies = [...this.dependencies()];
    const realTime = [...this.inRealTime()];
    for (const { kind, edges: cycle } of findCycles([...dependencies, ...realTime]))
      this.tell(
        kind,
        cycle.map(({ from, to, type, why }) => `${from.id} -${type}-> ${to.id}: ${why}`).join('; '),
      );
    return {
      transactions: this.history.length,
      lists: this.lists.size,
      dependencies: dependencies.length,
      realTime: realTime.length,
      lost: [...this.lost].filter((operation) => this.appendsOf.get(operation)!.length > 0).length,
      anomalies: this.anomalies,
    };
  }

  private tell(kind: string, about: string): void {
    this.anomalies.push({ kind, about });
  }

  private addSteps(operation: Operation): void {
    const isKnown = operation.outcome === 'ok';
    const own = new Map<string, string[]>();
    const appends: Append[] = [];
    for (const [kind, key, given] of (isKnown ? operation.result : operation.args) as readonly Step[]) {
      const appended = own.get(key) ?? [];
      if (kind === 'append') {
        own.set(key, [...appended, given]);
        const append = { appender: operation, key, value: given };
        appends.push(append);
        this.appends.push(append);
        this.appendOf.set(nameOf(key, given), append);
      } else if (isKnown) {
        const values = given ?? [];
        const before = values.slice(0, Math.max(0, values.length - appended.length));
        if (values.slice(before.length).join('\0') !== appended.join('\0'))
          this.tell('internal', `${operation.id} does not read what it has appended to ${key}`);
        this.reads.push({ reader: operation, key, values: before });
      }
    }
    this.appendsOf.set(operation, appends);
  }

  /** A list is what its longest read shows, or its last one where what was read may be lost. */
  private inferLists(): ReadonlyMap<string, List> {
    const lists = new Map<string, List>();
    for (const { key, values, reader } of this.reads) {
      const known = lists.get(key);
      const mayLose = lossesOfKey(this.losses, key).length > 0;
      const isLater = reader.startUs > (known?.readUs ?? -Infinity);
      const isBetter = mayLose ? isLater : values.length > (known?.values.length ?? -1);
      lists.set(key, {
        values: isBetter ? values : known!.values,
        readUs: isLater ? reader.startUs : known!.readUs,
      });
    }
    return lists;
  }

  private inferCommitted(): ReadonlySet<Operation> {
    const committed = this.history.filter(({ outcome }) => outcome === 'ok' || outcome === 'applied');
    const seen = this.appends.filter((append) => this.isThere(append)).map(({ appender }) => appender);
    return new Set([...committed, ...seen]);
  }

  private isThere({ key, value }: Append): boolean {
    return this.lists.get(key)?.values.includes(value) ?? false;
  }

  private checkLists(): void {
    for (const [key, { values }] of this.lists) {
      const seen = new Set<string>();
      for (const value of values) {
        const appender = this.appendOf.get(nameOf(key, value))?.appender;
        if (!appender) this.tell('garbage', `${value} in ${key} was appended by no transaction`);
        else if (appender.outcome === 'not-applied')
          this.tell('G1a', `${value} in ${key} is of ${appender.id}, told as not applied`);
        if (seen.has(value)) this.tell('duplicate', `${value} is in ${key} more than once`);
        seen.add(value);
      }
    }
  }

  /** Checks that every acknowledged value exists, or was lost as a whole in a window of loss. */
  private checkKept(operation: Operation): void {
    const { id, outcome, endUs } = operation;
    if (outcome !== 'ok' && outcome !== 'applied') return;
    // A list that was not read since says nothing.
    const shown = this.appendsOf
      .get(operation)!
      .filter(({ key }) => endUs < (this.lists.get(key)?.readUs ?? 0));
    const missing = shown.filter((append) => !this.isThere(append));
    if (missing.length === 0) return;
    const { key, value } = missing[0]!;
    if (missing.length < shown.length)
      this.tell('torn', `${value} of ${id} is not in ${key}, and more of it is`);
    else if (this.isInLoss(operation, key)) this.lost.add(operation);
    else this.tell('lost', `${value} of ${id} is not in ${key}`);
  }

  /** True if its answer may have come from a dead server that had the key. */
  private isInLoss({ startUs, endUs }: Operation, key: string): boolean {
    return lossesOfKey(this.losses, key).some(({ fromUs, toUs }) => startUs <= toUs && endUs >= fromUs);
  }

  /**
   * A successor has what the server had up to some moment: of two transactions that the server
   * answered one after the other, the first is not lost where the second is there.
   */
  private checkSuffix(loss: LossWindow): void {
    const { fromUs, struckUs = -Infinity } = loss;
    const answered = this.history.flatMap((operation) => {
      const appends = this.appendsOf.get(operation)!;
      const isOfServer = appends.some(({ key }) => lossesOfKey([loss], key).length > 0);
      const isBefore = operation.startUs >= fromUs && operation.endUs <= struckUs;
      return isOfServer && isBefore ? [{ operation, appends }] : [];
    });
    const lost = answered.filter(({ operation }) => this.lost.has(operation));
    const first = lost.toSorted((a, b) => a.operation.endUs - b.operation.endUs)[0]?.operation;
    if (!first) return;
    const kept = answered.find(
      ({ operation, appends }) =>
        operation.startUs > first.endUs && appends.some((append) => this.isThere(append)),
    );
    if (kept)
      this.tell('hole', `${kept.operation.id} is there, and ${first.id} is lost, answered before it began`);
  }

  private checkRead({ reader, key, values }: Read): void {
    const { values: order } = this.lists.get(key)!;
    const at = values.findIndex((value, index) => value !== order[index]);
    if (at >= 0 && !this.sawWhatWasLost(reader, key, values.slice(at)))
      this.tell(
        'incompatible-order',
        `${reader.id} reads ${values[at]} as number ${at} of ${key}, others ${order[at]}`,
      );
    const last = this.appendOf.get(nameOf(key, values.at(-1) ?? ''));
    if (!last || last.appender === reader) return;
    const ofKey = this.appendsOf.get(last.appender)!.filter((append) => append.key === key);
    if (ofKey.at(-1) !== last)
      this.tell('G1b', `${reader.id} reads ${key} in the middle of ${last.appender.id}`);
  }

  /** It was lost itself then; or it appended nothing, and is left out as if it was. */
  private sawWhatWasLost(reader: Operation, key: string, values: readonly string[]): boolean {
    const isLost = (value: string): boolean => {
      const append = this.appendOf.get(nameOf(key, value));
      return append !== undefined && !this.isThere(append);
    };
    if (!this.isInLoss(reader, key) || !values.every(isLost)) return false;
    if (this.appendsOf.get(reader)!.length === 0) this.lost.add(reader);
    return this.lost.has(reader);
  }

  private *dependencies(): Generator<Edge<Operation>> {
    const edge = (
      from: Operation | undefined,
      to: Operation | undefined,
      type: Edge<Operation>['type'],
      why: string,
    ) => (from && to && from !== to && this.counts(from) && this.counts(to) ? [{ from, to, type, why }] : []);
    const appenderOf = (key: string, value: string | undefined) =>
      value === undefined ? undefined : this.appendOf.get(nameOf(key, value))?.appender;
    for (const [key, { values }] of this.lists)
      for (const [at, value] of values.entries())
        yield* edge(
          appenderOf(key, values[at - 1]),
          appenderOf(key, value),
          'ww',
          `${value} follows in ${key}`,
        );
    for (const { reader, key, values } of this.reads) {
      const { values: order } = this.lists.get(key)!;
      const last = values.at(-1);
      yield* edge(appenderOf(key, last), reader, 'wr', `${last} is read in ${key}`);
      const next = order[values.length];
      yield* edge(reader, appenderOf(key, next), 'rw', `${next} is not yet read in ${key}`);
    }
    yield* this.unseen(edge);
  }

  /** A value that no read shows comes after all that are shown. */
  private *unseen(
    edge: (from: Operation, to: Operation, type: Edge<Operation>['type'], why: string) => Edge<Operation>[],
  ): Generator<Edge<Operation>> {
    const unseen = this.appends.filter(
      (append) => this.committed.has(append.appender) && this.lists.has(append.key) && !this.isThere(append),
    );
    for (const { appender, key, value } of unseen)
      for (const read of this.reads)
        if (read.key === key && read.values.length === this.lists.get(key)!.values.length)
          yield* edge(read.reader, appender, 'rw', `${value} is not read in ${key}`);
  }

  private counts(operation: Operation): boolean {
    return this.committed.has(operation) && !this.lost.has(operation);
  }

  /** From each to those that began later; what follows from two of them is left out. */
  private *inRealTime(): Generator<Edge<Operation>> {
    const counting = this.history.filter((operation) => this.counts(operation));
    const ends = counting.filter(({ endUs }) => endUs < Infinity).toSorted((a, b) => a.endUs - b.endUs);
    const border = new Set<Operation>();
    let ended = 0;
    for (const operation of counting.toSorted((a, b) => a.startUs - b.startUs)) {
      for (; ended < ends.length && ends[ended]!.endUs < operation.startUs; ended++) {
        const last = ends[ended]!;
        // They lie before this one, and so before all that begin now.
        for (const one of border) if (one.endUs < last.startUs) border.delete(one);
        border.add(last);
      }
      for (const one of border)
        yield { from: one, to: operation, type: 'realtime', why: 'it had been answered' };
    }
  }
}

const nameOf = (key: string, value: string): string => `${key}\0${value}`;
