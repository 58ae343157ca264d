import type { Redis } from 'ioredis';

export const SIDES = ['naive', 'atomic'] as const;
export type Side = (typeof SIDES)[number];

/** What came of one request of a caller. */
export type Outcome = 'accepted' | 'conflict' | 'failed' | 'unanswered';

export interface Answer {
  outcome: Outcome;
  /** Of an accepted one. */
  body?: Record<string, unknown>;
}

export interface LabRequest {
  method: 'GET' | 'POST';
  /** Below `/naive` for the naive side. */
  path: string;
  body?: object;
  headers?: Record<string, string>;
  /** Requests go to each process in turn; the first is the one that may be killed. */
  to?: 'first process';
  /** Whether it is one of the callers'. @default true */
  counted?: boolean;
}

/** What a scenario has to do with: requests to the shop, and Redis itself, past the fault proxy. */
export interface Stage {
  /** Of the account or article that this side's callers share, in this run alone. */
  readonly id: (side: Side) => string;
  /** How many calls each side's callers make at most. */
  readonly calls: number;
  readonly redis: Redis;
  /** Aborted when the callers are done, or their time is up: nothing more is to begin. */
  readonly closing: AbortSignal;
  readonly request: (side: Side, request: LabRequest) => Promise<Answer>;
  /** How many of the callers' requests were accepted so far. */
  readonly accepted: (side: Side) => number;
}

/** What Redis holds against what the callers were told. */
export interface Audit {
  /** What should be in Redis by the answers given. */
  told: number;
  /** What is. */
  held: number;
  /** What was lost, made twice or seen in part; 0 where nothing went wrong. */
  lost: number;
  /** Of how many. */
  of: number;
  /** What was given away and never there; null where that cannot be. */
  oversold: number | null;
}

/** A scenario that is being played. */
export interface Race {
  /** One call of one caller. */
  call(side: Side, index: number): Promise<void>;
  /** What goes on beside the callers, until the stage closes. */
  beside?(side: Side): Promise<void>;
  /** Whether a process killed now would be killed in the middle of something. @default always */
  inTheMiddle?(): Promise<boolean>;
  audit(side: Side): Promise<Audit>;
}

/** One thing done by a naive and by an atomic handler, and how to tell which of them got it right. */
export interface Scenario {
  readonly labels: { lost: string; oversold: string | null; told: string; held: string };
  /** The methods whose source stands beside the plot, as `file#method`. */
  readonly handlers: Readonly<Record<Side, readonly string[]>>;
  readonly callsPerCaller: number;
  begin(stage: Stage): Promise<Race>;
  /** Ends the sentence "Naive …" or "Atomic …". */
  verdict(audit: Audit): string;
}

export const plural = (count: number, one: string): string => `${count} ${one}${count === 1 ? '' : 's'}`;
