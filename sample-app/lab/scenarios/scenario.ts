import type { Redis } from 'ioredis';
import type { FakeProvider } from '../../payment-provider/fake-provider.js';
import type { LabFault } from '../faults.js';

export const SIDES = ['naive', 'byHand', 'atomic'] as const;
export type Side = (typeof SIDES)[number];

/** The outcome of one request of a caller. */
export type Outcome = 'accepted' | 'conflict' | 'failed' | 'unanswered';

export interface Answer {
  outcome: Outcome;
  /** The JSON of the response, of an error too. */
  body?: Record<string, unknown>;
}

export interface LabRequest {
  method: 'GET' | 'POST';
  /** Below the prefix of the side. */
  path: string;
  body?: object;
  headers?: Record<string, string>;
  /** Requests go to each process in turn, unless this names one. The first may be killed. */
  to?: 'first process' | 'last process';
  /** False for a request that is not one of the callers'. @default true */
  counted?: boolean;
}

/** A scenario's means: requests to the shop, and Redis itself, past the fault proxy. */
export interface Stage {
  /** The account or article that this side's callers share, in this run alone. */
  readonly id: (side: Side) => string;
  /** Most calls that each side's callers make. */
  readonly calls: number;
  readonly redis: Redis;
  /** The payment provider of all processes. */
  readonly provider: FakeProvider;
  /** The process that may be killed or stopped: the first one. */
  readonly victim: { readonly pid: number };
  /** True where the chosen fault kills a process. */
  readonly kills: boolean;
  /** Aborted when the callers are done, or their time is up: nothing more is to begin. */
  readonly closing: AbortSignal;
  readonly request: (side: Side, request: LabRequest) => Promise<Answer>;
  /** Counts of the callers' requests so far. */
  readonly counts: (side: Side) => Counts;
}

export interface Counts {
  sent: number;
  accepted: number;
  conflict: number;
  failed: number;
}

/** Redis's content against the answers that the callers got. */
export interface Audit {
  /** The value that Redis should hold by the answers given. */
  told: number;
  /** The value that Redis holds. */
  held: number;
  /** Calls that the wrong ones are counted among. */
  of: number;
  /** Errors by their names in the scenario's `wrongs`; 0 where nothing went wrong. */
  wrong: Record<string, number>;
}

/** One kind of error that a scenario looks for. */
export interface Wrong {
  /** Its row in the table. */
  label: string;
  /** Ends the sentence "This side …". */
  said(count: number, audit: Audit): string;
}

/** A scenario that is being played. */
export interface Race {
  /** One call of one caller. */
  call(side: Side, index: number): Promise<void>;
  /** Work beside the callers, until the stage closes. */
  beside?(side: Side): Promise<void>;
  /** True while a process would be killed or stopped in the middle of something. @default always */
  inTheMiddle?(): Promise<boolean>;
  /** Called once that has happened. A process that was stopped is woken when this is done. */
  struck?(): Promise<void>;
  audit(side: Side): Promise<Audit>;
}

/** One thing done by three handlers, and how to tell which of them got it right. */
export interface Scenario {
  readonly labels: { told: string; held: string };
  readonly wrongs: Readonly<Record<string, Wrong>>;
  /** Ends the sentence "This side …" where nothing went wrong. */
  readonly right: (audit: Audit) => string;
  /** The methods whose source the page shows, as `file#method`. */
  readonly handlers: Readonly<Record<Side, readonly string[]>>;
  /** The commands or the part of the library that each side builds on. */
  readonly means: Readonly<Record<Side, string>>;
  /** The reasons for each side's latency. */
  readonly latency: Readonly<Record<Side, string>>;
  /** The page of the documentation on the atomic way, below docs/. */
  readonly page: string;
  readonly callsPerCaller: number;
  /** A fault that is the point of the scenario, whatever else goes wrong. */
  readonly fault?: LabFault;
  begin(stage: Stage): Promise<Race>;
}

export const plural = (count: number, one: string): string => `${count} ${one}${count === 1 ? '' : 's'}`;

/** Everything wrong of one side, as one number. */
export const totalOf = ({ wrong }: Audit): number => Object.values(wrong).reduce((sum, one) => sum + one, 0);
