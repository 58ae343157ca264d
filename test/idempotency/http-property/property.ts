import { randomUUID } from 'node:crypto';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { pathOf, type PropertyApp } from './app.js';
import type { Case } from './cases.js';
import { fails, mayNeverEnd, predict, type Fate, type Prediction } from './model.js';
import { Script, SCRIPT_HEADER } from './script.js';
import { visit, type Seen, type WireAnswer } from './wire.js';

/** The application, and the same one without the decorator. */
export interface Apps {
  readonly app: PropertyApp;
  readonly twin: PropertyApp;
}

/**
 * Performs the first request of one case at two applications without the decorator: returns what
 * differs, which is the harness's own fault.
 */
export async function judgeTwins({ app, twin }: Apps, plan: Case): Promise<string[]> {
  const visits: [Seen, number][] = [];
  for (const one of [twin, app]) {
    const script = new Script(randomUUID(), plan);
    visits.push([await visitFirst(one, script, () => QUIET_MS), script.starts]);
    await untilStill(script, 30);
    script.dispose();
  }
  const [[expected, twinCalls], [seen, calls]] = visits as [[Seen, number], [Seen, number]];
  return compared(plan, expected, seen, calls, twinCalls);
}

const HANG_MS = 8_000;
const QUIET_MS = 400;

/** Longest wait of a client: only a busy machine makes it that long if each call ends. */
const patienceMsOf = ({ attempts }: Case): number =>
  attempts.some(({ ending }) => mayNeverEnd(ending)) ? HANG_MS : 30_000;

/**
 * Silence after which a response counts as never ending; on a busy machine one that ends may be as
 * quiet for a while.
 */
const quietMsOf = ({ plan: { attempts, around }, starts }: Script): number =>
  around.before === 'begins' || attempts.slice(0, starts).some(({ ending }) => mayNeverEnd(ending))
    ? QUIET_MS
    : 3_000;

/**
 * Performs one case and returns what went otherwise than the design says; nothing when all is
 * right.
 */
export async function judge({ app, twin }: Apps, plan: Case): Promise<string[]> {
  const id = randomUUID();
  const problems: string[] = [];

  const bare = new Script(`${id}-twin`, plan);
  const expected = await visitFirst(twin, bare, () => quietMsOf(bare));
  await untilStill(bare, 30);
  const twinCalls = bare.starts;
  const hangs = bare.isHandling;
  bare.dispose();

  const script = new Script(id, plan);
  try {
    const { leaves } = plan.client;
    const quietMs = expected.gaveUp === 'quiet' ? QUIET_MS : patienceMsOf(plan);
    const seen = await visitFirst(app, script, () => quietMs, leaves);
    await untilStill(script, twinCalls === 0 ? 30 : leaves === 'never' ? 2_000 : 250);
    const calls = script.starts;
    const wasHeard = calls > 0 || leaves === 'never';
    const prediction = predict(plan, {
      answer: expected.answers[0],
      calls: wasHeard ? twinCalls : 0,
      brokenCalls: bare.brokenCalls,
      goesOn: hangs,
      neverEnds: expected.gaveUp === 'quiet',
    });
    if (prediction.sameWire) {
      problems.push(...compared(plan, expected, seen, calls, twinCalls));
      const [want, got] = [bare, script].map(({ brokenCalls }) => [...brokenCalls].join(','));
      if (want !== got) problems.push(`calls ${got} of the handler reject unplanned, without us ${want}`);
    } else if (seen.gaveUp === 'deadline' && !prediction.mayHang) problems.push('the first request hangs');
    problems.push(
      ...(await judgeRetry(app, script, prediction, seen.answers[0] ?? expected.answers[0], leaves)),
    );
    problems.push(...script.wrongStarts.map((wrong) => `the handler was called ${wrong}`));
  } finally {
    script.dispose();
  }
  return problems;
}

async function visitFirst(
  { port }: PropertyApp,
  script: Script,
  quietMs: () => number,
  leaves: Case['client']['leaves'] = 'never',
): Promise<Seen> {
  const { plan } = script;
  const { http, next, acceptsGzip } = plan.client;
  const closes = http !== '1.1';
  const requests = [requestOf(script, http, acceptsGzip)];
  if (!closes && next !== 'none') requests.push(`GET /next/7 HTTP/1.1\r\nHost: property.test\r\n\r\n`);
  let call: () => void = () => undefined;
  const called = new Promise<void>((resolve) => (call = resolve));
  if (leaves === 'at-point')
    script.onPoint(async () => {
      call();
      const limit = performance.now() + 300;
      while (script.raw?.destroyed === false && performance.now() < limit) await turn();
    });
  return visit({
    port,
    requests,
    pipelined: next === 'pipelined',
    closes,
    ...(leaves !== 'never' && { leave: { at: LEAVES[leaves], called } }),
    isStill: () => script.entered && script.isStill,
    quietMs,
    deadlineMs: patienceMsOf(plan),
  });
}

const LEAVES = { 'at-once': 'once', 'at-point': 'called', 'on-head': 'head', soon: 'soon' } as const;

function requestOf(script: Script, http: Case['client']['http'], acceptsGzip: boolean): string {
  const { route, around } = script.plan;
  return [
    `POST ${pathOf(route)} HTTP/${http === '1.0' ? '1.0' : '1.1'}`,
    'Host: property.test',
    ...(http === '1.1-close' ? ['Connection: close'] : []),
    `Idempotency-Key: ${script.id}`,
    `${SCRIPT_HEADER}: ${script.id}`,
    `Accept-Encoding: ${acceptsGzip ? 'gzip' : 'identity'}`,
    ...(around.compress ? [] : ['x-no-compression: 1']),
    'Content-Type: application/json',
    'Content-Length: 2',
    '',
    '{}',
  ].join('\r\n');
}

/**
 * @param startsWithinMs how long the handler may take to begin: the client may have its answer, or
 * have gone, before
 */
async function untilStill(script: Script, startsWithinMs: number): Promise<void> {
  const limit = performance.now() + startsWithinMs;
  while (script.starts === 0 && performance.now() < limit) await sleep(5);
  const end = performance.now() + 3_000;
  // An interceptor may call the handler again some turns later.
  for (let still = 0; still < 5 && performance.now() < end; still = script.isStill ? still + 1 : 0)
    await sleep(1);
}

/** Returns the differences between the two that must not exist. */
function compared(plan: Case, expected: Seen, seen: Seen, calls: number, twinCalls: number): string[] {
  const problems: string[] = [];
  // A held response that never ends is never sent.
  if (expected.gaveUp === 'quiet' && seen.gaveUp === 'quiet' && seen.answers.length === 0) return problems;
  // The output of a compressor before its response breaks depends on its threads. So does the
  // question if anything was sent by then, after which the framework cannot answer with an error.
  const isBroken = [expected, seen].map(({ answers: [first], isClosed }) => {
    return isClosed && (!first?.isComplete || first.framing === 'close');
  });
  const mayBreak = plan.attempts.some(fails) ? isBroken.includes(true) : !isBroken.includes(false);
  if (mayBreak && plan.around.compress) return problems;
  if (calls !== twinCalls) problems.push(`the handler was called ${calls} times, without us ${twinCalls}`);
  if (seen.gaveUp === 'deadline') problems.push('the first request hangs');
  if (seen.answers.length !== expected.answers.length)
    problems.push(
      `${seen.answers.length} answers, not ${expected.answers.length}: ${told(seen)}, not ${told(expected)}`,
    );
  for (const [index, want] of expected.answers.entries()) {
    const got = seen.answers[index];
    if (!got) break;
    const [a, b] = [comparable(want), comparable(got)];
    if (a !== b) problems.push(`answer ${index + 1} is ${b}, not ${a}`);
    else if (!isSameBody(want, got))
      problems.push(`answer ${index + 1} has the body ${shown(got)}, not ${shown(want)}`);
  }
  if (seen.rest !== expected.rest) problems.push(`stray bytes ${JSON.stringify(seen.rest.slice(0, 200))}`);
  return problems;
}

/** Each problem has an id of its own. */
const isProblem = (answer: WireAnswer): boolean =>
  headerOf(answer, 'content-type')?.startsWith('application/problem+json') === true;
const OF_ITS_ID = ['etag', 'content-length'];

const comparable = (answer: WireAnswer): string => {
  const { head, headers, framing, isComplete } = answer;
  return JSON.stringify([
    head,
    headers
      .filter(([name]) => name !== 'date' && !name.startsWith('idempotency'))
      .filter(([name]) => !isProblem(answer) || !OF_ITS_ID.includes(name))
      .map(([name, value]) => `${name}: ${value}`),
    framing,
    isComplete ? 'complete' : 'broken off',
  ]);
};

function isSameBody(want: WireAnswer, got: WireAnswer): boolean {
  if (isProblem(want)) return withoutId(want) === withoutId(got);
  if (want.isComplete || want.body.length === got.body.length) return want.body.equals(got.body);
  return got.body.subarray(0, want.body.length).equals(want.body.subarray(0, got.body.length));
}

const withoutId = (answer: WireAnswer): string =>
  plainBody(answer)
    .toString()
    .replace(/"instance":"[^"]*"/, '');

const shown = ({ body }: WireAnswer): string =>
  `${body.length} bytes ${JSON.stringify(body.toString('latin1').slice(0, 400))}`;

const told = ({ answers, rest, gaveUp, isClosed }: Seen): string =>
  `[${answers.map(({ head, body }) => `${head} ${body.length} bytes`).join(', ')}]${rest && ` and ${JSON.stringify(rest.slice(0, 80))}`}${gaveUp ? `, client ${gaveUp}` : isClosed ? ', closed' : ''}`;

async function judgeRetry(
  { port }: PropertyApp,
  script: Script,
  prediction: Prediction,
  first: WireAnswer | undefined,
  leaves: Case['client']['leaves'],
): Promise<string[]> {
  const { plan } = script;
  script.phase = 'retry';
  const limit = performance.now() + 10_000;
  for (;;) {
    const callsBefore = script.starts;
    const seen = await visit({
      port,
      requests: [requestOf(script, '1.1-close', plan.client.retryAcceptsGzip)],
      pipelined: false,
      closes: true,
      isStill: () => script.isStill,
      quietMs: () => (script.starts > callsBefore ? QUIET_MS : HANG_MS),
      deadlineMs: script.isStill ? HANG_MS : 1_000,
    });
    const hasRun = script.starts > callsBefore;
    const [answer] = seen.answers;
    // The first request may have called its handler again, rather than this one.
    const answered = fateOf(answer);
    const fate = hasRun && answered !== 'running' ? 'released' : answered;
    const isEarly = fate === 'running' && !prediction.fates.has('running');
    // A machine that stalls may take longer than this client waits.
    const isLate = !answer && !hasRun && seen.gaveUp === 'deadline';
    if ((isEarly || isLate) && performance.now() < limit) {
      await sleep(5);
      continue;
    }
    const why = `${[...prediction.fates].join(' or ')} (${prediction.because})`;
    if (!fate) return [`the retry gets ${told(seen)} ${answer ? shown(answer) : ''}, not: ${why}`];
    if (!prediction.fates.has(fate))
      return [
        `the retry finds the key ${fate}, not ${why}; it gets ${told(seen)} ${answer ? shown(answer) : ''}`,
      ];
    if (fate !== 'kept' || !prediction.replaysFirst || !first || (leaves !== 'never' && !first.isComplete))
      return [];
    return comparedReplay(first, answer!, plan.client.retryAcceptsGzip);
  }
}

const FATES: Readonly<Record<string, Fate>> = {
  IDEMPOTENCY_IN_FLIGHT: 'running',
  IDEMPOTENCY_RESULT_UNAVAILABLE: 'done',
  IDEMPOTENCY_OUTCOME_UNKNOWN: 'held',
};

function fateOf(answer: WireAnswer | undefined): Fate | undefined {
  if (!answer) return undefined;
  if (answer.headers.some(([name, value]) => name === 'idempotency-replayed' && value === 'true'))
    return 'kept';
  const code = /"code":"(\w+)"/.exec(plainBody(answer).toString())?.[1];
  return FATES[code ?? ''];
}

const REPLAYED = ['content-type', 'content-language', 'content-disposition', 'location', 'cache-control'];
const NEVER_REPLAYED = ['set-cookie', 'x-request-id'];

function comparedReplay(first: WireAnswer, replay: WireAnswer, acceptsGzip: boolean): string[] {
  const problems: string[] = [];
  if (!replay.isComplete) problems.push('the replay is broken off');
  if (replay.status !== first.status)
    problems.push(`the replay has status ${replay.status}, not ${first.status}`);
  if (isProblem(first) ? withoutId(replay) !== withoutId(first) : !plainBody(replay).equals(plainBody(first)))
    problems.push(`the replay has the body ${shown(replay)}, not ${shown(first)}`);
  for (const name of REPLAYED)
    if (headerOf(replay, name) !== headerOf(first, name))
      problems.push(`the replay has ${name}: ${headerOf(replay, name)}, not ${headerOf(first, name)}`);
  for (const name of NEVER_REPLAYED)
    if (headerOf(replay, name) !== undefined) problems.push(`the replay has a ${name}`);
  if (!acceptsGzip && headerOf(replay, 'content-encoding') === 'gzip')
    problems.push('the replay is compressed for a client that cannot read it');
  return problems;
}

const headerOf = ({ headers }: WireAnswer, name: string): string | undefined =>
  headers.find(([each]) => each === name)?.[1];

function plainBody(answer: WireAnswer): Buffer {
  if (headerOf(answer, 'content-encoding') !== 'gzip') return answer.body;
  try {
    return gunzipSync(answer.body);
  } catch {
    return answer.body;
  }
}
