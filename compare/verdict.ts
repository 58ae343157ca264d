import type { Told } from './messages.js';

/** The worst first. */
export const OUTCOMES = [
  'doubled',
  'lost',
  'told wrongly',
  'leaked',
  'stuck',
  'held',
  'unknown',
  'refused',
] as const;

export type Outcome = (typeof OUTCOMES)[number];

/** Everything that went wrong in one run. */
export interface Verdict {
  readonly found: ReadonlySet<Outcome>;
  readonly notes: readonly string[];
}

export class Judge {
  readonly found = new Set<Outcome>();
  readonly notes: string[] = [];

  /** @param hasOutcomes its errors say if the call was applied */
  constructor(private readonly hasOutcomes: boolean) {}

  say(outcome: Outcome, note: string): void {
    this.found.add(outcome);
    this.notes.push(`${outcome}: ${note}`);
  }

  /**
   * A call that was refused has its effect. A peer whose errors state no outcome has not said that
   * it has none.
   */
  refusedWrongly(note: string): void {
    this.say(this.hasOutcomes ? 'told wrongly' : 'unknown', note);
  }

  /** Compares a caller's answer with the number of its call's effects. */
  call(name: string, told: Told, times: number): void {
    const note = `${name} was told ${describe(told)}, and has its effect ${times} times`;
    if (times > 1) this.say('doubled', note);
    else if (told.kind === 'ok' && times === 0) this.say('lost', note);
    else if (told.kind === 'not-applied' && times > 0) this.refusedWrongly(note);
    else if (told.kind === 'not-applied') this.say('refused', note);
    else if (told.kind === 'unknown') this.say('unknown', note);
    else if (told.kind === 'no answer') this.say('stuck', note);
  }
}

export const describe = (told: Told): string =>
  'error' in told
    ? `${told.kind} (${told.error})`
    : told.kind === 'ok'
      ? `ok (${String(told.value)})`
      : told.kind;
