import {
  MAX_RESULT_BYTES,
  type Attempt,
  type Case,
  type Ending,
  type ErrorKind,
  type InterceptorKind,
  type Policy,
  type ValueKind,
} from './cases.js';
import type { WireAnswer } from './wire.js';

/**
 * The result of a repeated request: the first response, "done, no answer to replay", "outcome
 * unknown", a run of its own, or "the first one still runs".
 */
export type Fate = 'kept' | 'done' | 'held' | 'released' | 'running';

export interface Prediction {
  /** One of these. Several where the design leaves it open. */
  readonly fates: ReadonlySet<Fate>;
  /** The rule they follow from. */
  readonly because: string;
  /** True if the handler resolves and never answers. */
  readonly mayHang: boolean;
  /** True if the first client sees the same as without the decorator. */
  readonly sameWire: boolean;
  /** True if a kept response equals the one that the first client saw. */
  readonly replaysFirst: boolean;
}

/** The end of the first request, as far as interceptors decide it. */
interface Story {
  /** The end of the handler's last call. */
  last: Attempt;
  settled: Settlement;
  calls: number;
  /**
   * Somebody asked for the handler again: after it had resolved, once its run was over, or while it
   * ran.
   */
  askedAgain: 'never' | 'after' | 'over' | 'beside';
  /** True if the last call rejected for another reason than planned. */
  isBroken: boolean;
  /** True if any call, not only the last, sent a part of a response. */
  hasSentPart: boolean;
  /** An interceptor answered while the handler ran. */
  timedOut: boolean;
  /** An interceptor's conversion of the handler's outcome. */
  afterwards: 'nothing' | 'failed' | 'fell back';
  /** Calls that rejected with an unknown outcome, and whether another call came after one. */
  unknowns: number;
  hasForgotten: boolean;
}

/** The statuses after which a key is free again. */
const frees = (status: number): boolean => [408, 412, 425, 429].includes(status) || status >= 500;

/** Statuses whose response has no representation for another request. */
const isPartial = (status: number): boolean => [206, 304, 412].includes(status);

/** The behaviour of the same route without the decorator for a client that stays. */
export interface Twin {
  readonly answer: WireAnswer | undefined;
  /** Calls of the handler. */
  readonly calls: number;
  /** Calls that rejected for another reason than planned. */
  readonly brokenCalls: ReadonlySet<number>;
  /**
   * True if a call never settles though it was not planned to hang: it waits for a response that
   * another component ended.
   */
  readonly goesOn: boolean;
  /** True if the response never ended. */
  readonly neverEnds: boolean;
}

/** True if nothing may ever end the response to such a call. */
export const mayNeverEnd = (ending: Ending): boolean =>
  ending.do === 'hang' ||
  ending.do === 'answer-nothing' ||
  (ending.do === 'respond-partly' && ending.next === 'nothing');

export function predict(
  plan: Case,
  { answer: twin, calls, brokenCalls, goesOn, neverEnds }: Twin,
): Prediction {
  const { around, client, route } = plan;
  if (calls === 0) return always('released', 'the handler was never reached');
  const story = tell(plan, brokenCalls);
  // A call that never ends is held for ever.
  const { ending } = story.last;
  // A late answer to a response that middleware has begun fails, and nothing ends it.
  const isLate = ending.do === 'respond' && ending.late && around.before !== 'nothing';
  // If several calls ran at once without the decorator, another one's outcome may decide with it.
  const lasts = story.askedAgain === 'never' ? [story.last] : plan.attempts;
  // Calls at once share a run. If it fails, and an interceptor has a value in place of the error,
  // nothing answers a handler that sends by itself.
  const isSwallowed =
    story.askedAgain === 'beside' && route.takes === 'response' && around.interceptors.includes('catch');
  const mayHang = lasts.some((attempt) => mayNeverEnd(attempt.ending)) || isLate || isSwallowed;
  const isHeld =
    ending.do === 'respond-partly' && ending.next === 'nothing' && (!route.stream || client.http === '1.0');
  // A promise continues below a time-out, and interceptors below it may call again.
  const goesOnBelow = story.timedOut && around.interceptors.some((kind) => kind.startsWith('promise'));
  const sameWire = story.askedAgain === 'never' && client.leaves === 'never' && !isHeld && !goesOnBelow;
  const answeredBefore = around.before !== 'nothing';
  const answeredMeanwhile = story.timedOut || (around.answersAtPoint && reachedPoint(plan, story.calls));
  const isOthers = answeredBefore || answeredMeanwhile;
  const context: Context = { plan, story, twin, isOthers, neverEnds };
  const { settled } = story;
  const ruled =
    settled.kind === 'never' || (goesOn && (sameWire || goesOnBelow))
      ? one('running', 'the handler goes on')
      : settled.kind === 'rejects'
        ? rejected(context, settled.error)
        : resolved(context);
  const asksAgain = story.askedAgain !== 'never' && settled.kind !== 'never';
  // A handler writes to a response that another component ended: its error depends on when the
  // client left.
  const mayFareOtherwise = isOthers && client.leaves !== 'never';
  const late: readonly Fate[] = mayFareOtherwise
    ? ['done', 'running', ...judgedAs(plannedError(ending))]
    : [];
  // A repeated request gets its answer or a refusal, which another interceptor may map.
  const more: readonly Fate[] =
    !asksAgain || story.askedAgain === 'over'
      ? []
      : story.askedAgain === 'beside'
        ? ['kept', 'done', 'held', 'released', 'running']
        : // What is on the wire without us may be of a later call; a late error of the first one frees the key.
          ['done', 'kept', ...(frees(sentStatus(story.last)) ? (['released'] as const) : [])];
  return {
    fates: new Set([...ruled.fates, ...more, ...late]),
    because: ruled.because + (asksAgain ? `; asked again ${story.askedAgain} it` : ''),
    sameWire,
    mayHang,
    replaysFirst:
      !isOthers &&
      story.afterwards === 'nothing' &&
      ruled.mayReplayError !== true &&
      story.askedAgain === 'never',
  };

  function always(fate: Fate, because: string): Prediction {
    return {
      fates: new Set([fate]),
      because,
      mayHang: false,
      sameWire: client.leaves === 'never',
      replaysFirst: true,
    };
  }
}

interface Context {
  readonly plan: Case;
  readonly story: Story;
  readonly twin: WireAnswer | undefined;
  /** True if another component answered before the handler, or while it ran. */
  readonly isOthers: boolean;
  readonly neverEnds: boolean;
}

interface Ruled {
  readonly fates: ReadonlySet<Fate>;
  readonly because: string;
  /**
   * True if the replay may be the error as a whole response, though the first client got a part of
   * one.
   */
  readonly mayReplayError?: boolean;
}

const several = (fates: readonly Fate[], because: string): Ruled => ({ fates: new Set(fates), because });
const one = (fate: Fate, because: string): Ruled => several([fate], because);

const isUnknown = ({ kind }: ErrorKind): boolean => kind === 'unknown' || kind === 'applied';

const BY_POLICY: Readonly<Record<Policy, Fate>> = { replay: 'kept', release: 'released', hold: 'held' };

function rejected({ plan, story, twin, isOthers, neverEnds }: Context, error: ErrorKind): Ruled {
  const { onError } = plan.route;
  if (isUnknown(error)) return one('held', 'rule 1: outcome unknown');
  if (story.hasForgotten) return one('held', 'rule 1: the outcome of an earlier call is unknown');
  const fellBack = story.afterwards === 'fell back';
  const { ending } = story.last;
  // A body that the end of its connection ends looks complete where its source failed.
  const hasAnswered = twin?.isComplete === true && !story.isBroken && !fails(story.last);
  const hasWhole = hasAnswered && !story.hasSentPart;
  const keeps = isOthers || fellBack || !hasWhole ? [] : canBeKept(plan, story.last, twin);
  if (onError !== 'default') {
    if (onError === 'replay' && twin?.status === 412)
      return { ...several(['kept', 'done'], 'rule 2, and 412 is not kept'), mayReplayError: !hasWhole };
    if (onError !== 'replay' || keeps.join() === 'kept') {
      const fate = onError === 'replay' ? keeps[0]! : BY_POLICY[onError];
      return one(fate, `rule 2: onError says ${onError}`);
    }
    const because = 'rule 2: onError says replay, but the first client got no whole answer of it';
    return { ...several(['kept', 'done', 'held'], because), mayReplayError: true };
  }
  const isOwn = ending.do === 'respond' && !isOthers;
  if (isOwn && ending.thenThrows !== undefined && hasAnswered && twin.status < 400) {
    // Express sends no file to a client that has gone: there is no answer then, and the error
    // decides.
    const isUnsent = plan.client.leaves !== 'never' && ending.style === 'sendFile';
    const byError: readonly Fate[] = isUnsent ? ['released', 'held'] : [];
    const fates = [...canBeKept(plan, story.last, twin), ...byError];
    return several(fates, 'rule 3: rejected after its own complete answer');
  }
  const isWholeOfSeveral = twin?.isComplete === true && story.hasSentPart && !story.isBroken;
  if (isOwn && ending.thenThrows !== undefined && isWholeOfSeveral && twin.status < 400)
    return one('kept', 'rule 3: rejected after its calls together had sent a complete answer');
  const isRetryable = ['conflict', 'limit', 'unavailable'].includes(error.kind);
  if (isRetryable && !fellBack) return one('released', 'rule 4: a retryable error of ours');
  if (neverEnds) {
    const judged: readonly Fate[] = frees(statusOf(error)) ? ['released'] : ['kept', 'done'];
    return several(['running', ...judged], 'rule 4 judges its error: nobody answers');
  }
  if (isOthers || fellBack) {
    // A fallback may go out with an error's status, which the handler set before it rejected.
    const isErrorOnWire = !isOthers && twin !== undefined && twin.status >= 400;
    const status = isErrorOnWire ? twin.status : statusOf(error);
    if (error.kind === 'domain')
      return several(['released', 'kept', 'done'], 'rule 4: a domain error nobody mapped');
    // An interceptor's conversion of the failure may stand as the response: GAP, the design names
    // no status below 400 here.
    const fallen: readonly Fate[] = isOthers ? [] : ['kept', 'done'];
    if (frees(status)) return several(['released', ...fallen], `rule 4 judges its error: ${status}`);
    return several(['kept', 'done', 'held'], `rule 4 judges its error: ${status}`);
  }
  if (!twin)
    return several(
      // An object with a status is no HttpException.
      frees(statusOf(error)) || error.kind === 'status-object'
        ? ['released', 'done', 'held']
        : ['kept', 'done', 'held'],
      'rule 4: nothing is on the wire, so its error is judged',
    );
  if (!hasWhole) {
    // A client that has left gets nothing of a response that breaks off at once: the error decides.
    const unseen = plan.client.leaves === 'never' ? [] : judgedAs(error);
    const because = `GAP: rejected after a part of its own ${twin.status}`;
    return several(['done', 'held', 'released', ...unseen], because);
  }
  if (frees(twin.status)) return one('released', `rule 4: ${twin.status} on the wire`);
  if (twin.status >= 400)
    return several(canBeKept(plan, story.last, twin), `rule 4: ${twin.status} on the wire`);
  return several(['kept', 'done', 'held'], `GAP: rejected with ${twin.status} on the wire`);
}

function resolved({ plan, story, twin, isOthers, neverEnds }: Context): Ruled {
  const { onResponse } = plan.route;
  const { ending } = story.last;
  const said: Fate[] = onResponse === 'default' ? [] : [BY_POLICY[onResponse]];
  const meant = meantStatus(story.last);
  // GAP: a framework may send nothing to a client that has left, so that the status is never seen.
  const left: readonly Fate[] = plan.client.leaves === 'never' ? [] : ['done'];
  if (isOthers) return several(['done', ...said], 'rule 5: resolved, somebody else answered');
  if (story.afterwards !== 'nothing') {
    const mayBeKept =
      ending.do === 'respond' || ending.do === 'respond-partly' || (twin?.status ?? 500) < 500;
    const mayBeFree = frees(meant ?? twin?.status ?? 500);
    return several(
      [
        'done',
        ...(mayBeKept ? (['kept'] as const) : []),
        ...(mayBeFree ? (['released'] as const) : []),
        ...said,
      ],
      'rule 5: resolved, an interceptor failed',
    );
  }
  if (neverEnds) return several(['running', 'done', ...said], 'rule 5: resolved, and never answers');
  if (meant !== undefined && twin && twin.status !== meant)
    return several(['done', ...said], 'rule 5: resolved, the serializer or an operator failed');
  const isBroken = !twin?.isComplete || fails(story.last);
  // `onResponse` is not asked about a part.
  if (isBroken && frees(twin?.status ?? 0))
    return several(['released', ...left], `rule 4: sent ${twin?.status} by itself`);
  // Fastify does not touch a source whose status has no body.
  const isBodiless = twin?.isComplete && [204, 304].includes(twin.status);
  if (isBroken)
    return several(
      ['done', ...(isBodiless ? (['kept'] as const) : []), ...said],
      'rule 5: resolved, the response failed',
    );
  const kept = canBeKept(plan, story.last, twin);
  if (twin.status === 412) return several(['released', ...said, ...left], 'only 412 frees it');
  // GAP: what was too large is not there for it to judge.
  if (kept.includes('done') && (onResponse !== 'default' || !frees(twin.status)))
    return several(
      [...kept, ...said, ...(frees(twin.status) ? (['released'] as const) : [])],
      'rule 5: resolved, and its response may not be kept',
    );
  if (onResponse === 'replay') return several(kept, 'rule 2: onResponse says replay');
  if (onResponse !== 'default')
    return several(kept.length > 1 ? ['done', ...said] : said, `rule 2: onResponse says ${onResponse}`);
  if (frees(twin.status)) return several(['released', ...left], `rule 4: sent ${twin.status} by itself`);
  return several(kept, `rule 5: resolved with ${twin.status}`);
}

/**
 * Streams, which fail with their client, and Observables of none or several values, of which Nest
 * then sends nothing.
 */
const GOES_WITH_CLIENT: ReadonlySet<ValueKind> = new Set([
  'web-response',
  'generator',
  'streamable-bytes',
  'observable-many',
  'observable-empty',
]);

/**
 * `kept` where the response can be; `done` where not; both where the client's leaving may have
 * broken it.
 */
function canBeKept(plan: Case, { ending }: Attempt, twin: WireAnswer | undefined): readonly Fate[] {
  if (!twin?.isComplete || twin.body.length > MAX_RESULT_BYTES || isPartial(twin.status)) return ['done'];
  const isLarge = ending.do === 'respond' && ending.size > MAX_RESULT_BYTES;
  const isBodiless = [204, 304].includes(twin.status);
  if (isBodiless && (isLarge || ending.do === 'stream' || ending.do === 'return')) return ['kept', 'done'];
  if (plan.client.leaves === 'never') return ['kept'];
  const isStreamed =
    ending.do === 'stream' ||
    (ending.do === 'return' && GOES_WITH_CLIENT.has(ending.value)) ||
    (ending.do === 'respond' && ['pipe', 'pipeline', 'sendFile'].includes(ending.style));
  return plan.route.stream || isStreamed ? ['kept', 'done'] : ['kept'];
}

type Settlement =
  { readonly kind: 'resolves' | 'never' } | { readonly kind: 'rejects'; readonly error: ErrorKind };

const RESOLVES: Settlement = { kind: 'resolves' };
const rejects = (error: ErrorKind): Settlement => ({ kind: 'rejects', error });

function settlementOf({ ending }: Attempt): Settlement {
  if (ending.do === 'hang') return { kind: 'never' };
  if (ending.do === 'throw') return rejects(ending.error);
  if (ending.do === 'return' && ending.value === 'observable-fails')
    return rejects({ kind: 'http', status: 409 });
  if (ending.do === 'respond-partly' && ending.next === 'throw') return rejects({ kind: 'plain' });
  if (ending.do !== 'respond' || ending.late) return RESOLVES;
  if (ending.style === 'pipeline' && ending.source !== 'ends') return rejects({ kind: 'plain' });
  return ending.thenThrows ? rejects(ending.thenThrows) : RESOLVES;
}

/** True if the source of the answer fails, or the handler breaks it off. */
export function fails({ ending }: Attempt): boolean {
  if (ending.do === 'stream') return ending.source !== 'ends';
  if (ending.do === 'respond') return ['pipe', 'pipeline'].includes(ending.style) && ending.source !== 'ends';
  return ending.do === 'respond-partly' && ending.next === 'destroy';
}

/** The status that the handler chose, where it did. */
function meantStatus({ ending, status }: Attempt): number | undefined {
  if (ending.do === 'return') return ending.value === 'web-response' ? 202 : (status ?? 201);
  if (ending.do === 'stream') return status ?? 201;
  return undefined;
}

/** The error that the handler is to throw, where it does. */
const plannedError = (ending: Ending): ErrorKind | undefined =>
  ending.do === 'respond' ? ending.thenThrows : undefined;

/** Returns the fates that rule 4 gives an error by itself. */
function judgedAs(error: ErrorKind | undefined): readonly Fate[] {
  if (!error) return [];
  if (isUnknown(error)) return ['held'];
  return frees(statusOf(error)) ? ['released'] : ['kept', 'done', 'held'];
}

/** The status that the handler sends by itself, or has Nest send. */
const sentStatus = (attempt: Attempt): number =>
  attempt.ending.do === 'respond' ? attempt.ending.status : (meantStatus(attempt) ?? 0);

/** The status that an error has by itself. */
function statusOf(error: ErrorKind): number {
  if (error.kind === 'http') return error.status;
  return error.kind === 'status-object' ? 418 : 500;
}

/**
 * Tells whether middleware can answer at the point: it cannot once a call of the handler has begun
 * the response.
 */
const reachedPoint = ({ attempts }: Case, calls: number): boolean => {
  const made = Array.from({ length: calls }, (_, index) => attempts[Math.min(index, attempts.length - 1)]!);
  const at = made.findIndex(({ reachesPoint }) => reachesPoint);
  return at >= 0 && made.slice(0, at + 1).every(({ ending }) => ending.do !== 'respond-partly');
};

/** Follows the first request through the interceptors. */
function tell(plan: Case, brokenCalls: ReadonlySet<number>): Story {
  const { interceptors } = plan.around;
  const story: Story = {
    last: plan.attempts[0]!,
    settled: RESOLVES,
    calls: 0,
    askedAgain: 'never',
    isBroken: false,
    hasSentPart: false,
    timedOut: false,
    afterwards: 'nothing',
    unknowns: 0,
    hasForgotten: false,
  };
  let hasResolved = false;
  let isOver = false;
  let isRunning = false;
  /** Number of time-outs armed around the call. */
  let armed = 0;

  const hasOthersAnswer = () =>
    story.timedOut ||
    plan.around.before !== 'nothing' ||
    (plan.around.answersAtPoint && reachedPoint(plan, story.calls));

  type Result = 'value' | 'error' | 'timed out' | 'never';
  const call = (): Result => {
    if (story.calls > 0 && (hasOthersAnswer() || fails(story.last))) {
      // A run whose response is over ends with its handler: there is nothing left that another call
      // could say.
      story.askedAgain = 'beside';
      return story.settled.kind === 'rejects' ? 'error' : 'value';
    }
    if (isRunning) {
      story.askedAgain = 'beside';
      return 'never';
    }
    if (hasResolved) {
      if (story.askedAgain === 'never') story.askedAgain = isOver ? 'over' : 'after';
      return story.settled.kind === 'rejects' ? 'error' : 'value';
    }
    if (story.unknowns > 0) story.hasForgotten = true;
    story.last = plan.attempts[Math.min(story.calls, plan.attempts.length - 1)]!;
    story.calls++;
    story.afterwards = 'nothing';
    story.hasSentPart ||= story.last.ending.do === 'respond-partly';
    story.isBroken = brokenCalls.has(story.calls - 1);
    const settled = story.isBroken ? rejects({ kind: 'plain' }) : settlementOf(story.last);
    story.settled = settled;
    const { kind } = settled;
    if (kind === 'resolves') hasResolved = true;
    // So does its own answer, whatever the handler throws behind it: the run is over then.
    if (story.last.ending.do === 'respond') {
      isOver = kind === 'rejects';
      hasResolved = true;
    }
    if (kind === 'rejects' && isUnknown(settled.error)) story.unknowns++;
    // A call that rejects before it sends a part does not reach the point behind it.
    const reaches = story.last.reachesPoint && !(story.isBroken && story.last.ending.do === 'respond-partly');
    if (armed > 0 && reaches) {
      story.timedOut = true;
      isRunning = true;
      return 'timed out';
    }
    if (kind === 'never') isRunning = true;
    return kind === 'resolves' ? 'value' : kind === 'rejects' ? 'error' : 'never';
  };

  const around: Partial<Record<InterceptorKind, (inner: () => Result) => Result>> = {
    'map-throws-500': failing,
    'map-throws-409': failing,
    'timeout-408': timing,
    'timeout-504': timing,
    retry: (inner) => {
      const result = inner();
      return result === 'error' ? inner() : result;
    },
    catch: (inner) => {
      const result = inner();
      if (result !== 'error') return result;
      // A route that takes the response answers itself; Nest does not.
      if (plan.route.takes === 'response') story.timedOut = false;
      else if (!story.timedOut) story.afterwards = 'fell back';
      return 'value';
    },
    twice: (inner) => {
      const result = inner();
      return result === 'value' ? inner() : result;
    },
    together: (inner) => {
      const result = inner();
      story.askedAgain = 'beside';
      return result;
    },
  };
  function failing(inner: () => Result): Result {
    const result = inner();
    if (result !== 'value') return result;
    story.afterwards = 'failed';
    // The error is answered while the call continues.
    story.timedOut ||= isRunning;
    return 'error';
  }
  function timing(inner: () => Result): Result {
    armed++;
    const result = inner();
    armed--;
    return result === 'timed out' ? 'error' : result;
  }
  interceptors.reduceRight<() => Result>((inner, kind) => {
    const act = around[kind];
    return act ? () => act(inner) : inner;
  }, call)();
  return story;
}
