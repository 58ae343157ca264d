// Node's own, also while a test has timers of its own in place.
import { setImmediate } from 'node:timers';
import { Bag, type BagMember } from './intrusive-set.js';

/** Something that is to be done at a time, unless it is called off before. */
export interface Alarm extends BagMember {
  /** On the scale of `performance.now()`, milliseconds. */
  readonly at: number;
  readonly ring: () => void;
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
class Alarms {
  private readonly waiting = new Bag<Alarm>();
  private timer: NodeJS.Timeout | undefined;
  private goesOffAt = Infinity;

  add(alarm: Alarm): void {
    this.waiting.add(alarm);
    const now = performance.now();
    if (alarm.at < this.goesOffAt) this.setTimer(alarm.at);
    else if (now - this.goesOffAt > LOST_MS) this.setTimer(now);
    else if (this.waiting.size === 1) this.timer?.ref();
  }

  delete(alarm: Alarm): boolean {
    const wasWaiting = this.waiting.delete(alarm);
    if (wasWaiting && this.waiting.size === 0) this.timer?.unref();
    return wasWaiting;
  }

  private setTimer(at: number): void {
    clearTimeout(this.timer);
    this.goesOffAt = at;
    const ms = Math.min(MAX_TIMER_MS, Math.max(1, Math.ceil(at - performance.now())));
    this.timer = setTimeout(() => this.goOff(), ms);
  }

  /** Rings what is due, after the answers that have arrived by now: after a stall Node.js runs timers before it reads from sockets. */
  private goOff(): void {
    this.timer = undefined;
    this.goesOffAt = Infinity;
    let turns = TURNS;
    const nextTurn = (): void => {
      if (turns-- > 0) setImmediate(nextTurn);
      else this.ringDue();
    };
    nextTurn();
  }

  private ringDue(): void {
    const now = performance.now();
    const due: Alarm[] = [];
    let next = Infinity;
    for (const alarm of this.waiting) {
      if (alarm.at <= now) due.push(alarm);
      else if (alarm.at < next) next = alarm.at;
    }
    for (const alarm of due) this.waiting.delete(alarm);
    if (next < this.goesOffAt) this.setTimer(next);
    for (const { ring } of due) ring();
  }
}

const alarms = new Alarms();

/** Calls `ring`, which must not throw, at `at` on the scale of `performance.now()`, unless it is called off by {@link callOff}. */
export function setAlarm(at: number, ring: () => void): Alarm {
  const alarm = { at, ring, place: -1 };
  alarms.add(alarm);
  return alarm;
}

/** Whether it had not rung yet. */
export const callOff = (alarm: Alarm): boolean => alarms.delete(alarm);
