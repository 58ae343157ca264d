// Node's own, also while a test replaces the global timers.
import { setImmediate } from 'node:timers';
import { IntrusiveSet, type SetMember } from './intrusive-set.js';

/** A call that is due at a time, unless it is unscheduled before. */
export interface ScheduledCall extends SetMember {
  /** On the scale of `performance.now()`, milliseconds. */
  readonly at: number;
  onDue(): void;
}

/** The longest that a timer of Node.js can wait, in milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * A timer that is overdue by more than this will never fire: it was set while a test replaced the
 * global timers.
 */
const LOST_MS = 1_000;

/**
 * Turns of the event loop between the timer and the calls. One reads a plain socket; TLS hands its
 * bytes on in the next.
 */
const TURNS = 3;

/**
 * Serves any number of scheduled calls by one timer. Nearly all of them are unscheduled, and then
 * cost no more than an entry that is added to a set and deleted. The timer fires at the earliest
 * time of all calls, runs those that are due, and is set again for the rest.
 *
 * The timer keeps the process alive while a call is scheduled, and no longer.
 */
class TimerQueue {
  private readonly waiting = new IntrusiveSet<ScheduledCall>();
  private timer: NodeJS.Timeout | undefined;
  private firesAt = Infinity;

  add(alarm: ScheduledCall): void {
    this.waiting.add(alarm);
    const now = performance.now();
    if (alarm.at < this.firesAt) this.setTimer(alarm.at);
    else if (now - this.firesAt > LOST_MS) this.setTimer(now);
    else if (this.waiting.size === 1) this.timer?.ref();
  }

  delete(alarm: ScheduledCall): boolean {
    const wasWaiting = this.waiting.delete(alarm);
    if (wasWaiting && this.waiting.size === 0) this.timer?.unref();
    return wasWaiting;
  }

  private setTimer(at: number): void {
    clearTimeout(this.timer);
    this.firesAt = at;
    const ms = Math.min(MAX_TIMER_MS, Math.max(1, Math.ceil(at - performance.now())));
    this.timer = setTimeout(() => this.fire(), ms);
  }

  /**
   * Runs the due calls after the replies that have arrived by now: after a stall, Node.js runs
   * timers before it reads sockets.
   */
  private fire(): void {
    this.timer = undefined;
    this.firesAt = Infinity;
    let turns = TURNS;
    const nextTurn = (): void => {
      if (turns-- > 0) setImmediate(nextTurn);
      else this.fireDue();
    };
    nextTurn();
  }

  private fireDue(): void {
    const now = performance.now();
    const due: ScheduledCall[] = [];
    let next = Infinity;
    for (const alarm of this.waiting) {
      if (alarm.at <= now) due.push(alarm);
      else if (alarm.at < next) next = alarm.at;
    }
    for (const alarm of due) this.waiting.delete(alarm);
    if (next < this.firesAt) this.setTimer(next);
    for (const alarm of due) alarm.onDue();
  }
}

const timers = new TimerQueue();

/**
 * Calls `onDue`, which must not throw, at `at` on the scale of `performance.now()`, unless
 * {@link unschedule} prevents it.
 */
export function schedule(at: number, onDue: () => void): ScheduledCall {
  const alarm = { at, onDue, index: -1 };
  timers.add(alarm);
  return alarm;
}

/** Does the same for an object that is the scheduled call itself. */
export const arm = (alarm: ScheduledCall): void => timers.add(alarm);

/** @returns true if the call had not been made yet */
export const unschedule = (alarm: ScheduledCall): boolean => timers.delete(alarm);
