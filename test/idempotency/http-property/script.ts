import { AsyncResource } from 'node:async_hooks';
import type { ServerResponse } from 'node:http';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { Attempt, Case } from './cases.js';

const scripts = new Map<string, Script>();

/** The request header that names its script. */
export const SCRIPT_HEADER = 'x-script';

/** Returns the script that a request is made for. */
export const scriptOf = (headers: Readonly<Record<string, unknown>>): Script | undefined =>
  scripts.get(String(headers[SCRIPT_HEADER]));

/** Plays the handler and its surroundings for the requests of one case, and records the events. */
export class Script {
  /** Surroundings that answer in the handler's place do so for the first request only. */
  phase: 'first' | 'retry' = 'first';
  /** Calls of the handler so far: its effects. */
  starts = 0;
  /** Calls that began while another one ran, or after one had resolved. */
  readonly wrongStarts: string[] = [];
  /**
   * Calls that rejected for another reason than planned: for example an earlier answer of another
   * component.
   */
  readonly brokenCalls = new Set<number>();
  /** Errors that the handler was to throw. */
  readonly planned = new Set<unknown>();
  entered = false;
  /** The response of the latest request. */
  raw: ServerResponse | undefined;
  private active = 0;
  private hung = 0;
  private resolved = 0;
  private handling = 0;
  private listeners: (() => Promise<unknown>)[] = [];
  private readonly raws = new Set<ServerResponse>();
  private free!: () => void;
  private readonly released = new Promise<void>((resolve) => (this.free = resolve));

  constructor(
    readonly id: string,
    readonly plan: Case,
  ) {
    scripts.set(id, this);
  }

  enter(raw: ServerResponse): void {
    this.entered = true;
    this.raw = raw;
    this.raws.add(raw);
  }

  /** Runs `work` as one call of the handler. */
  async handle<T>(work: (attempt: Attempt) => Promise<T>): Promise<T> {
    const { attempts } = this.plan;
    const attempt = attempts[Math.min(this.starts, attempts.length - 1)]!;
    this.starts++;
    if (this.handling > 0) this.wrongStarts.push('beside a call that went on');
    if (this.resolved > 0 && this.phase === 'first') this.wrongStarts.push('after a call that had resolved');
    const index = this.starts - 1;
    this.handling++;
    this.active++;
    try {
      const value = await work(attempt);
      if (attempt.ending.do !== 'return' || attempt.ending.value !== 'observable-fails') this.resolved++;
      return value;
    } catch (error) {
      if (!this.planned.has(error)) this.brokenCalls.add(index);
      throw error;
    } finally {
      this.handling--;
      this.active--;
    }
  }

  /** Runs `work` after the handler's promise. */
  later(work: () => Promise<unknown>): void {
    this.active++;
    void (async () => {
      await sleep(5);
      await work();
    })()
      .catch(() => undefined)
      .finally(() => this.active--);
  }

  /** Never settles during the case. */
  async hang(): Promise<void> {
    this.hung++;
    await this.released;
    this.hung--;
  }

  onPoint(listener: () => unknown): void {
    // Runs like a timer's callback: outside the handler's async context.
    this.listeners.push(AsyncResource.bind(async () => listener()));
  }

  /** Tells the surroundings that now is the time, and waits until they have done what they do. */
  async point(): Promise<void> {
    const listeners = this.listeners.splice(0);
    if (listeners.length === 0) return;
    await Promise.all(listeners.map((listener) => listener()));
    await this.untilEnded(150);
  }

  /** Resolves once the response has ended, and after `limitMs` at the latest. */
  async untilEnded(limitMs: number): Promise<void> {
    const { raw } = this;
    const limit = performance.now() + limitMs;
    while (raw && !raw.writableEnded && !raw.destroyed && performance.now() < limit) await turn();
    await turn();
  }

  /** True if nothing runs in the handler, or only work that never ends. */
  get isStill(): boolean {
    return this.active === this.hung;
  }

  /** True if a call of the handler has not settled. */
  get isHandling(): boolean {
    return this.handling > 0;
  }

  /** Ends what never ends by itself. */
  dispose(): void {
    scripts.delete(this.id);
    for (const raw of this.raws) if (!raw.writableFinished) raw.destroy();
    this.free();
  }
}
