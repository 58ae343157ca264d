import { parseArgs } from 'node:util';
import { startRedisServer } from '../../lib/testing/index.js';
import { soakBodies } from './bodies.js';
import { areBodiesRight } from './bodies-verdict.js';
import { soakCluster } from './cluster.js';
import { wrongOnCluster } from './cluster-verdict.js';
import { contend } from './contention.js';
import { startRecording } from '../histories/recorder.js';
import { isHandedOver, soakHandover } from './handover.js';
import { soakClusterHistories, soakHistories, type HistoriesReport } from './histories.js';
import { soakHttp } from './http.js';
import { soakIdempotency } from './idempotency.js';
import { soakProduction, wrongInProduction } from './production.js';
import { soakQueues } from './queues.js';
import { render, renderBodies, renderCluster, renderIdempotency, renderProduction } from './report.js';
import { judgeShadowSwap, measureShadowSwap } from './shadow-swap.js';
import { historyOf, reproducibly, tellHistory } from './reproduce.js';
import { soakSteps } from './steps.js';
import { soakTransactions } from './transactions.js';
import { isRight } from './effects.js';
import { isClean } from './verdict.js';

/** Long runs of what the specs of the same names run shortly. */
const soaks: Record<string, () => Promise<boolean>> = {
  transactions,
  bodies,
  idempotency,
  steps,
  http,
  contention,
  queues,
  handover,
  cluster,
  production,
  'shadow-swap': shadowSwap,
  histories,
};

async function transactions(): Promise<boolean> {
  const given = numbers({ transactions: 20_000, faults: 500, restarts: 5, seed: Date.now() % 1_000_000 });
  const report = await soakTransactions({ ...given, limitMs: 600_000 });
  console.info(render(report));
  const reached = report.applied >= given.transactions && report.struck >= given.faults;
  if (!reached) console.error('\nToo few transactions or faults in the time given.');
  return tellHistory(report.history) && reached && isClean(report);
}

async function bodies(): Promise<boolean> {
  const given = numbers({ transactions: 100_000, faults: 500, restarts: 5, seed: Date.now() % 1_000_000 });
  const report = await soakBodies({ ...given, limitMs: 1_800_000 });
  console.info(renderBodies(report));
  const reached = report.transactions >= given.transactions && report.struck >= given.faults;
  if (!reached) console.error('\nToo few transactions or faults in the time given.');
  const isKnown = given.faults > 0 || report.unknown === 0;
  return tellHistory(report.history) && reached && isKnown && areBodiesRight(report);
}

async function idempotency(): Promise<boolean> {
  const given = numbers({ keys: 5_000, kills: 40, pauses: 80, restarts: 5, seed: Date.now() % 1_000_000 });
  const report = await soakIdempotency({ ...given, limitMs: 1_200_000 });
  console.info(renderIdempotency(report));
  return tellHistory(report.history) && isRight(report);
}

async function steps(): Promise<boolean> {
  const given = numbers({ keys: 3_000, faults: 3_000, seed: Date.now() % 1_000_000 });
  const report = await soakSteps({ ...given, limitMs: 1_200_000 });
  const { wrong, ...counts } = report;
  for (const [name, value] of Object.entries(counts)) console.info(`${name}: ${value}`);
  for (const problem of wrong) console.error(problem);
  return report.lost === 0 && wrong.length === 0;
}

async function http(): Promise<boolean> {
  const { cases, seed } = numbers({ cases: 10_000, seed: Date.now() % 1_000_000 });
  const report = await soakHttp({ cases, seed });
  console.info(
    `${report.cases} cases in ${Math.round(report.elapsedMs / 1_000)} s: ${report.failed} failed, ${report.stray} errors not caught`,
  );
  if (report.wrong) console.error(`\n${report.wrong}`);
  return report.cases >= cases && report.failed === 0 && report.stray === 0;
}

async function contention(): Promise<boolean> {
  const { increments } = numbers({ increments: 200 });
  const server = await startRedisServer({ binary: process.env['TEST_REDIS_BINARY'] });
  try {
    const [workers, callers] = [4, 16];
    const recording = startRecording();
    const report = await contend({ url: server.url, key: 'counter', workers, callers, increments });
    console.info(`${workers} processes × ${callers} callers × ${increments} increments of one key`);
    const { p50, p95, p99, max, counted, failed } = report;
    console.info(`attempts: p50 ${p50}, p95 ${p95}, p99 ${p99}, max ${max}`);
    console.info(`succeeded ${counted}, failed ${failed.length} ${[...new Set(failed)].join(' ')}`.trimEnd());
    return (
      tellHistory(historyOf(recording)) && failed.length === 0 && counted === workers * callers * increments
    );
  } finally {
    await server.stop();
  }
}

async function shadowSwap(): Promise<boolean> {
  const { fields, rounds, pause } = numbers({ fields: 1_000_000, rounds: 5, pause: 20 });
  console.info(
    `a hash of ${fields} fields, ${rounds} rounds; bounds hold on a machine with nothing else to do\n`,
  );
  const { table, isWithin } = judgeShadowSwap(await measureShadowSwap({ fields, rounds, pauseMs: pause }));
  console.info(table);
  return isWithin;
}

async function queues(): Promise<boolean> {
  const given = numbers({ jobs: 50_000, kills: 60, 'kill-every': 600, seed: Date.now() % 1_000_000 });
  const { jobs, kills, seed } = given;
  const report = await soakQueues({ jobs, kills, killEveryMs: given['kill-every'], seed, limitMs: 900_000 });
  for (const [name, value] of Object.entries(report)) console.info(`${name}: ${Math.round(value as number)}`);
  const { lost, shared, wronglyJudged, early, disordered, left } = report;
  const reached = report.pushed === jobs && report.kills + report.stops >= kills;
  return reached && [lost, shared, wronglyJudged, early, disordered, left].every((count) => count === 0);
}

async function handover(): Promise<boolean> {
  const given = numbers({
    jobs: 50_000,
    kills: 60,
    pauses: 30,
    'strike-every': 1_000,
    seed: Date.now() % 1_000_000,
  });
  const { jobs, kills, pauses, seed } = given;
  const strikeEveryMs = given['strike-every'];
  const report = await soakHandover({ jobs, kills, pauses, strikeEveryMs, seed, limitMs: 1_200_000 });
  for (const [name, value] of Object.entries(report)) console.info(`${name}: ${Math.round(value as number)}`);
  return report.placed >= jobs && report.kills >= kills && report.pauses >= pauses && isHandedOver(report);
}

async function production(): Promise<boolean> {
  const { seconds, seed } = numbers({ seconds: 600, seed: Date.now() % 1_000_000 });
  const report = await soakProduction({
    rounds: Infinity,
    seed,
    limitMs: seconds * 1_000,
    plainLimitMs: 5_000,
    tell: (line) => console.error(line),
  });
  console.info(renderProduction(report));
  const wrong = wrongInProduction(report);
  for (const problem of wrong) console.error(`\n${problem}`);
  return wrong.length === 0;
}

/** Three times: without deaths, with them, and with them where every call waits for a replica. */
async function cluster(): Promise<boolean> {
  const { kills, stalls, ...given } = numbers({
    moves: 60,
    failovers: 20,
    kills: 12,
    stalls: 6,
    seed: Date.now() % 1_000_000,
  });
  const durability = { replicas: 1, timeoutMs: 5_000 };
  const parts = {
    'nodes change in an orderly way': { ...given, kills: 0, stalls: 0 },
    'masters die, or stand still until they are replaced': { ...given, kills, stalls },
    'the same, and every call waits for a replica': { ...given, kills, stalls, durability },
  };
  let allRight = true;
  for (const [title, options] of Object.entries(parts)) {
    const report = await soakCluster(options);
    console.info(renderCluster(title, report));
    const wrong = wrongOnCluster(report, { deaths: options.kills > 0, durable: 'durability' in options });
    if (tellHistory(report.history) && Object.keys(wrong).length === 0) continue;
    allRight = false;
    console.error('wrong:', wrong);
  }
  return allRight;
}

/** Five parts, each a bit of `parts`: to repeat one, choose it alone. */
async function histories(): Promise<boolean> {
  const given = numbers({
    seconds: 60,
    moves: 20,
    failovers: 6,
    kills: 6,
    // Less than the minute by which evidence outlives a time limit; more is more than is promised.
    leap: 30_000,
    parts: 31,
    seed: Date.now() % 1_000_000,
  });
  const { seconds, moves, failovers, kills, seed } = given;
  const durability = { replicas: 1, timeoutMs: 5_000 };
  const orderly = { seed, moves, failovers, kills: 0 };
  const deadly = { seed, moves: Math.ceil(moves / 4), failovers: Math.ceil(failovers / 4), kills };
  const parts: Record<string, () => Promise<HistoriesReport>> = {
    'one server': () => soakHistories({ seed, seconds }),
    'one server whose clock steps': () => soakHistories({ seed, seconds, leapMs: given.leap }),
    'a Cluster whose nodes change in an orderly way': () => soakClusterHistories(orderly),
    'a Cluster whose masters die': () => soakClusterHistories(deadly),
    'the same, and every call waits for a replica': () => soakClusterHistories({ ...deadly, durability }),
  };
  let allRight = true;
  for (const [bit, [title, run]] of Object.entries(parts).entries()) {
    if ((given.parts & (1 << bit)) === 0) continue;
    const { history, faults, elapsedMs } = await run();
    console.info(`\n${title}: ${Math.round(elapsedMs / 1_000)} s`);
    for (const { kind, injected, struck } of faults) console.info(`  ${kind}: ${injected}, struck ${struck}`);
    if (tellHistory(history)) continue;
    allRight = false;
    console.error(`history: ${history.folder}; this part alone: --parts ${1 << bit}`);
  }
  return allRight;
}

/** The options of the run, defaults included: they repeat it. */
const askedFor: Record<string, number> = {};

/** The options as whole numbers; none but those with a default are known. */
function numbers<Name extends string>(defaults: Record<Name, number>): Record<Name, number> {
  const names = Object.keys(defaults) as Name[];
  const { values } = parseArgs({
    args: process.argv.slice(3),
    options: Object.fromEntries(names.map((name) => [name, { type: 'string' as const }])),
  });
  const result = { ...defaults };
  for (const name of names) {
    const value = values[name];
    if (value === undefined) continue;
    if (!/^\d+$/.test(value)) throw new Error(`--${name} must be a whole number, got ${value}`);
    result[name] = Number(value);
  }
  Object.assign(askedFor, result);
  if ('seed' in result)
    console.info(`seed ${String(result.seed)}: it chooses the calls and the faults, not their timing\n`);
  return result;
}

void (async () => {
  const soak = soaks[process.argv[2] ?? ''];
  if (!soak) {
    console.error(
      `There are these soaks: ${Object.keys(soaks).join(', ')}. "npm run soak -- --help" tells their options.`,
    );
    process.exitCode = 1;
    return;
  }
  try {
    startRecording();
    if (!(await reproducibly(process.argv[2]!, askedFor, soak))) process.exitCode = 1;
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
  }
})();
