// Node's own, also while a test has timers of its own in place.
import { setImmediate } from 'node:timers';
import { IntrusiveSet, type SetMember } from './intrusive-set.js';

/** Something that is to be done at a time, unless it is called off before. */
export interface ScheduledCall extends SetMember {
  /** On the scale of `performance.now()`, milliseconds. */
  readonly at: number;
  readonly onDue: () => void;
}

/** The longest that a timer of Node.js can wait, in milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** A timer that is overdue by more than this will not go off any more: it was set while a test had put timers of its own in place of Node's. */
const LOST_MS = 1_000;

/** Turns of the event loop between the timer and the alarms. One reads a plain socket; TLS hands on in the next what it read in this one. */
const TURNS = 3;

/**
 * Any number of alarms behind one timer. Nearly all of them are called off, and are then no more than an entry added to a set and deleted again: the timer goes off
 * at the earliest time that anybody asked for, looks who is due, and is set anew for the rest.
 *
 * The timer keeps the process alive as long as somebody waits, and not longer.
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

  /** Rings what is due, after the answers that have arrived by now: after a stall Node.js runs timers before it reads from sockets. */
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
    for (const { onDue: ring } of due) ring();
  }
}

const timers = new TimerQueue();

/** Calls `ring`, which must not throw, at `at` on the scale of `performance.now()`, unless it is called off by {@link unschedule}. */
export function schedule(at: number, ring: () => void): ScheduledCall {
  const alarm = { at, onDue: ring, index: -1 };
  timers.add(alarm);
  return alarm;
}

/** Whether it had not rung yet. */
export const unschedule = (alarm: ScheduledCall): boolean => timers.delete(alarm);
